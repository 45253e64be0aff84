// Slabs put together to the tensors of a directory: codes as they come, scales behind them when a tensor's codes are whole.

import SmeltContainers
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// Makes the tensors of a directory of slabs. Used by one thread.
final class TensorAssembler {
  /// The tensors in the order of the shards.
  let tensors: [NamedTensor]
  private let options: ConvertOptions
  /// For each slab's name its tensor.
  private let owners: [String: Int]
  private var current = 0
  /// Codes that the tensor at hand still needs, and parts that wait for them.
  private var left = 0
  private var waiting: [[Bytes]] = []
  /// Global scales that were stored as their reciprocals, and how many of these were rounded.
  private(set) var turned = 0
  private(set) var roundedReciprocals = 0

  /// Nothing written yet.
  init(_ tensors: [NamedTensor], _ plan: Plan, _ options: ConvertOptions) {
    self.tensors = tensors
    self.options = options
    var owners: [String: Int] = [:]
    for (index, tensor) in tensors.enumerated() {
      for slab in tensor.slabs { owners[plan.slabs[slab].name] = index }
    }
    self.owners = owners
  }

  /// What was counted, for a run that goes on.
  var counts: [Int] {
    get { [turned, roundedReciprocals] }
    set { if newValue.count == 2 { (turned, roundedReciprocals) = (newValue[0], newValue[1]) } }
  }

  /// Whether all that came is written: no tensor is begun and not whole.
  var isBetween: Bool { left == 0 && waiting.isEmpty }

  /// What is said of reciprocals that were rounded; nil where none was.
  var remark: String? {
    guard roundedReciprocals > 0 else { return nil }
    return
      "\(grouped(roundedReciprocals)) of \(grouped(turned)) global scales are stored as reciprocals that float32 rounds: "
      + "numbers differ by 2⁻²³ of themselves at most; codes and group scales are the same"
  }

  /// The next slab begins.
  func begin(_ slab: OutputMatrix) {
    current = owners[slab.name] ?? 0
    guard left == 0 else { return }
    let entry = tensors[current].entries[0]
    left = SafetensorsWriter.Declaration(entry.name, entry.dtype, entry.shape).byteCount
  }

  /// The next bytes of its codes.
  func append(_ piece: ConvertedPiece, write: (String, Bytes) throws -> Void) throws {
    let entry = tensors[current].entries[0]
    let content = entry.stored(piece.content)
    try write(entry.name, content)
    left -= content.count
  }

  /// Its codes are whole.
  func end(_ others: [(part: ResultPart, bytes: Bytes)], write: (String, Bytes) throws -> Void) throws {
    waiting.append(others.map(\.bytes))
    guard left == 0 else { return }
    for (part, entry) in tensors[current].entries.enumerated().dropFirst() {
      if let constant = entry.constant {
        try write(entry.name, constant)
      } else {
        for bytes in waiting { try write(entry.name, try stored(bytes[part - 1], entry)) }
      }
    }
    waiting = []
  }

  /// A part as its tensor has it.
  private func stored(_ bytes: Bytes, _ entry: DeclaredTensor) throws -> Bytes {
    guard entry.isReciprocal else { return entry.packed?.words(bytes) ?? bytes }
    let (reciprocal, isExact) = bytes.reciprocal
    turned += 1
    guard !isExact else { return reciprocal }
    roundedReciprocals += 1
    guard !options.exactOnly else {
      throw RequestError(
        .unsupported,
        "the reciprocal of the global scale in '\(entry.name)' is not exact, and --exact-only allows no rounding",
        help: "leave --exact-only away, or choose the source's own --layout")
    }
    return reciprocal
  }
}
