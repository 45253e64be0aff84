// `plan`: what a conversion will do, from headers alone. The same plan is what `convert` carries out.

public import SmeltContainers
import SmeltModels
public import SmeltQuantization
public import SmeltStorage
public import SmeltTensors

/// What a conversion is asked to do.
public struct ConvertOptions: Sendable {
  /// Which scheme for which weight.
  public var recipe: Recipe
  /// What calibration learned, if anything.
  public var statistics: Statistics?
  /// Whether frames may be compressed.
  public var compression: Compression
  /// Refuse every step that may change a value.
  public var exactOnly: Bool
  /// Replace a result that exists.
  public var overwrite: Bool
  /// Threads, memory, progress.
  public var run: RunOptions

  /// Options; nothing changes values unless the recipe says so.
  public init(
    recipe: Recipe, statistics: Statistics? = nil, compression: Compression = .auto, exactOnly: Bool = false,
    overwrite: Bool = false, run: RunOptions = RunOptions()
  ) {
    self.recipe = recipe
    self.statistics = statistics
    self.compression = compression
    self.exactOnly = exactOnly
    self.overwrite = overwrite
    self.run = run
  }
}

/// One weight of a plan: how it is stored, and what it will become.
public struct PlannedWeight: Sendable {
  /// How it is stored in the source.
  public let stored: StoredWeight
  /// What will be done with it.
  public let decision: QuantizeDecision
  /// The encoding it will have.
  public let encoding: any Encoding
  /// Why it gets its scheme.
  public let reason: String
  /// Bytes of the result's parts, before compression.
  public let bytesOut: Int

  /// Whether the bytes stay as they are.
  public var isKept: Bool { decision.scheme.keepsBytes || encoding is IntegerTable }
}

/// A conversion before it begins.
public struct Plan: Sendable {
  /// The weights in the order in which they will be written.
  public let weights: [PlannedWeight]
  /// The ledger, without what only reading the data can tell.
  public let ledger: [LedgerEntry]
  /// Bytes of all source tensors.
  public let bytesIn: Int
  /// Bytes of the result's weights, before compression.
  public let bytesOut: Int
  /// What the conversion will hold in memory.
  public let peakMemoryBytes: Int

  /// Tensors left out by named rules.
  public var dropped: Int { ledger.count { $0.fate == .dropped } }

  /// Plans a conversion of a model.
  /// - Throws: `RequestError` when the recipe and the model do not fit, or a lossy step meets `exactOnly`.
  public init(_ model: Model, _ options: ConvertOptions) throws {
    let stored = try model.storedWeights()
    let sources = Dictionary(uniqueKeysWithValues: stored.map { ($0.spec.name, $0.encoding) })
    try options.recipe.check(stored.map(\.spec)) { sources[$0.name] ?? Plain.f32 }
    weights = try stored.map { stored in
      var decision = try options.recipe.decide(
        stored.spec, source: stored.encoding, statistics: options.statistics)
      decision.options.importance = nil  // read again when the weight's turn comes: a plan stays small
      let encoding = decision.scheme.encoding(for: stored.encoding, shape: stored.spec.shape)
      if options.exactOnly, decision.scheme.isLossy {
        throw RequestError(
          .usage,
          "'\(stored.spec.name)' would be rounded by '\(decision.scheme.name)', and --exact-only allows no such step",
          help: "leave --exact-only away, or keep the weight by a recipe")
      }
      let isKept = decision.scheme.keepsBytes || encoding is IntegerTable
      return PlannedWeight(
        stored: stored, decision: decision, encoding: encoding,
        reason: options.recipe.reason(for: stored.spec, source: stored.encoding),
        bytesOut: isKept ? stored.contentBytes : encoding.byteCount(of: stored.spec.shape))
    }
    ledger = Plan.ledger(weights, model)
    bytesIn = ledger.reduce(0) { $0 + $1.bytesIn }
    bytesOut = ledger.reduce(0) { $0 + $1.bytesOut }
    let widest = weights.map { $0.stored.spec.shape.columns * 8 }.max() ?? 0
    var builtBytes = 0
    if case .checkpoint(let checkpoint) = model.container {
      builtBytes = checkpoint.builtBytes(threads: options.run.parallel.threads)
    }
    peakMemoryBytes =
      (47 << 20) + Plan.tableBytes * weights.count + Plan.statisticsBytes
      * (options.statistics?.tensors.count ?? 0)
      + builtBytes + 2 * options.run.parallel.threads * (3 * ConvertJob.contentLimit + widest)
      + (weights.map { $0.stored.spec.shape.rows * 4 }.max() ?? 0)
  }

  /// What the tables of names take for each weight (headers, table, plan, ledger, index) and each tensor of the
  /// statistics; measured with 72 thousand weights.
  private static let tableBytes = 5 << 10
  private static let statisticsBytes = 640

  private static func ledger(_ weights: [PlannedWeight], _ model: Model) -> [LedgerEntry] {
    var ledger: [LedgerEntry] = []
    for weight in weights {
      let spec = weight.stored.spec
      let (codes, others) = (weight.stored.tensors[0], weight.stored.tensors.dropFirst())
      ledger.append(
        LedgerEntry(
          source: codes.name, fate: weight.isKept ? .copied : .converted,
          rule: weight.reason, weight: spec.name.description,
          scheme: weight.decision.scheme.name, bytesIn: codes.byteCount, bytesOut: weight.bytesOut,
          note: weight.decision.note))
      for other in others {
        ledger.append(
          LedgerEntry(
            source: other.name, fate: .joined, rule: "belongs to '\(codes.name)'",
            weight: spec.name.description,
            scheme: weight.decision.scheme.name, bytesIn: other.byteCount, bytesOut: 0))
      }
    }
    if case .checkpoint(let checkpoint) = model.container {
      for (tensor, rule) in checkpoint.dropped {
        ledger.append(
          LedgerEntry(
            source: tensor.name, fate: .dropped, rule: rule.name, bytesIn: tensor.bytes.count, bytesOut: 0,
            note: rule.reason))
      }
    }
    return ledger
  }

  /// The contract's JSON. What no rule explains is refused before there is a plan, so `unknown` is empty.
  public var json: JSON {
    [
      "ledger": JSON(ledger.map(\.json)), "bytes_in": JSON(bytesIn), "bytes_out": JSON(bytesOut),
      "peak_memory_bytes": JSON(peakMemoryBytes), "dropped": JSON(dropped), "unknown": JSON(0),
    ]
  }

  /// What a person reads: fates and schemes, counted.
  public var text: String {
    var table = Table(["fate", "scheme", "tensors", "bytes in", "bytes out"])
    var groups: [(key: String, fate: String, scheme: String, count: Int, bytesIn: Int, bytesOut: Int)] = []
    for entry in ledger {
      let scheme = entry.scheme ?? entry.rule
      let key = "\(entry.fate.rawValue) \(scheme)"
      if let place = groups.firstIndex(where: { $0.key == key }) {
        groups[place].count += 1
        groups[place].bytesIn += entry.bytesIn
        groups[place].bytesOut += entry.bytesOut
      } else {
        groups.append((key, entry.fate.rawValue, scheme, 1, entry.bytesIn, entry.bytesOut))
      }
    }
    for group in groups {
      table.add([
        group.fate, group.scheme, "\(group.count)", byteText(group.bytesIn), byteText(group.bytesOut),
      ])
    }
    return table.text + "\n\(summary)"
  }

  /// One line: sizes, memory, what is left out.
  var summary: String {
    "\(byteText(bytesIn)) in, at most \(byteText(bytesOut)) out, about \(byteText(peakMemoryBytes)) of memory, "
      + "\(dropped) dropped, 0 unknown"
  }
}
