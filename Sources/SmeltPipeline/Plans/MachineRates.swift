// What this machine does in a second, measured for a moment before a plan says how long a run will take.

import SmeltContainers
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// Rates of this machine on the threads of a run, as busy as it is now.
struct MachineRates: Sendable {
  /// Multiplications and additions a second of products of many tokens, all threads together.
  let productOperations: Double
  /// Bytes a second written to a file of the result's file system and synced.
  let diskBytes: Double
  private let parallel: Parallel

  /// Measures products and the disk.
  /// - Parameter folder: where a file of 32 MiB is written and removed; nowhere where that fails.
  init(_ parallel: Parallel, folder: String) {
    self.parallel = parallel
    let (tokens, outputs, inputs) = (256, 768, 2048)
    let x = Matrix(
      rows: tokens, columns: inputs, values: (0..<tokens * inputs).map { Float($0 % 17) / 16 - 0.5 })
    var seconds = 1.0
    if let weight = benchWeight("bf16", [outputs, inputs]) {
      seconds = MachineRates.wallTime(0.15) { _ = multiply(x, weight, parallel: parallel) }
    }
    productOperations = 2 * Double(tokens) * Double(outputs) * Double(inputs) / seconds
    diskBytes = MachineRates.disk(folder) ?? 1e9
  }

  /// The shortest wall time of a call, over at least `seconds` and three calls after one that is not counted: what others do in between
  /// is not the work's.
  private static func wallTime(_ seconds: Double, _ body: () -> Void) -> Double {
    body()
    let start = monotonicSeconds()
    var calls = 0
    var shortest = Double.infinity
    while calls < 3 || monotonicSeconds() - start < seconds {
      let begun = monotonicSeconds()
      body()
      shortest = min(shortest, monotonicSeconds() - begun)
      calls += 1
    }
    return shortest
  }

  private static func disk(_ folder: String) -> Double? {
    let block = [UInt8](repeating: 0x5A, count: 1 << 20)
    let start = monotonicSeconds()
    do {
      let file = try ScratchFile(in: folder)
      for place in 0..<32 { try block.withUnsafeBytes { try file.write($0, at: place << 20) } }
      try file.sync()
    } catch {
      return nil
    }
    return Double(32 << 20) / max(monotonicSeconds() - start, 1e-6)
  }

  /// Seconds that a scheme takes for a number, all threads at work, measured on rows of normal numbers.
  /// - Parameters:
  ///   - columns: of the weight's rows.
  ///   - hasImportances: whether each column has a weight of its own.
  func secondsPerNumber(
    _ scheme: any Scheme, columns: Int, observer: Observer?, hasImportances: Bool
  ) -> Double {
    // Pieces of a quarter of a MiB, as a conversion takes them, two for each thread.
    let block = max(1, 131_072 / columns / scheme.rowBlock) * scheme.rowBlock
    let rows = 2 * block * parallel.threads
    guard let weight = normalWeight([rows, columns]) else { return 0 }
    var options = QuantizeOptions()
    if let observer { options.observer = observer }
    if hasImportances {
      options.importance = ImportanceView(
        groups: 1, columns: columns, values: [Float](repeating: 1, count: columns))
    }
    let chosen = options
    let seconds = MachineRates.wallTime(0.03) {
      parallel.forEach(rows / block) { part in
        _ = try? scheme.quantize(weight, rows: part * block..<(part + 1) * block, options: chosen)
      }
    }
    return seconds / Double(rows * columns)
  }

  /// Seconds that an ingot's packing takes for a byte, all threads at work.
  func secondsPerPackedByte(_ mode: CodecMode) -> Double {
    guard mode != .raw, let weight = normalWeight([512, 2048]),
      let form = try? FrameCodec.choose(content: weight.values.bytes, dtype: .bf16, mode: mode)
    else { return 0 }
    let (source, pool) = (weight.values.bytes, BufferPool())
    let chunks = FrameCodec.chunkCount(source.count)
    let seconds = MachineRates.wallTime(0.03) {
      parallel.forEach(parallel.threads) { _ in
        let buffer = pool.take(FrameCodec.chunkBytes)
        for index in 0..<chunks {
          let range = FrameCodec.chunkRange(index, of: source.count)
          let hash = source[range].withUnsafeBytes { xxh64($0) }
          _ = try? FrameCodec.encode(source[range], form, hash: hash, into: (buffer, 0))
        }
      }
    }
    return seconds / Double(source.count * parallel.threads)
  }
}
