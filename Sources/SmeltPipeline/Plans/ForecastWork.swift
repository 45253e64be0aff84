// The work of a run in operations and bytes, from shapes alone.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// Operations, memory and disk of a pass over windows.
struct PassWork {
  /// Multiplications and additions.
  var operations = 0.0
  /// Resident memory.
  var memory = 0
  /// Bytes in files while it runs.
  var spilled = 0
  /// Bytes of the activations of all tokens.
  var activations = 0
}

/// What a model and a plan make of windows.
struct ForecastWork {
  private let model: Model
  private let plan: Plan
  private let options: ConvertOptions

  init(_ model: Model, _ plan: Plan, _ options: ConvertOptions) {
    (self.model, self.plan, self.options) = (model, plan, options)
  }

  private var dimensions: ModelDimensions { model.family.dimensions }
  private var maxMemory: Int { options.run.maxMemory }
  private var specs: [WeightSpec] { model.family.weights.filter { $0.isMultiplied && !$0.isDraft } }

  /// The share of a weight's multiplications that a token needs.
  private func share(_ spec: WeightSpec) -> Double {
    guard spec.name.expert != nil, dimensions.experts > 0 else { return 1 }
    return Double(dimensions.expertsPerToken) / Double(dimensions.experts)
  }

  /// Operations of a token in one pass: two operations for each number that a token needs, and 15 % for the rest.
  private var tokenOperations: Double {
    2.3 * specs.reduce(0) { $0 + Double($1.shape.count) * share($1) }
  }

  /// Bytes of a statistics file.
  var statisticsBytes: Int {
    let tensors = StatisticsLayout(model.family).declarations(.means)
    return tensors.reduce(1 << 20) { $0 + ($1.dtype.byteCount($1.shape.count) ?? 0) + 256 }
  }

  /// Roles that a budget tells apart in a layer.
  var rolesPerLayer: Int {
    let roles = Set(specs.filter { $0.layer != nil && $0.role.isQuantizedByDefault }.map(\.role))
    return max(1, roles.count)
  }

  /// A forward pass.
  /// - Parameters:
  ///   - limit: tokens of them at most.
  ///   - streams: how many passes are held side by side.
  ///   - cached: whether weights may be used again, for another group or another scheme.
  func pass(_ windows: Windows, limit: Int = .max, streams: Int, cached: Bool) -> PassWork {
    let tokens = min(windows.tokenCount, limit)
    let groups = windows.groups(dimensions, streams: streams, maxMemory: maxMemory)
    let atOnce = min(
      tokens * (Windows.activationBytes(dimensions, streams: streams) + 4 * dimensions.kept),
      Windows.bytesAtOnce(groups, dimensions, streams: streams))
    var work = PassWork(operations: Double(tokens) * tokenOperations)
    // Scores of a window against itself, all heads.
    let length = Double(windows.sequences.map(\.count).max() ?? 0)
    work.operations += 4 * Double(tokens) * length * Double(dimensions.hidden * dimensions.layers)
    work.activations = tokens * dimensions.hidden * dimensions.streams * 4
    if groups.count > 1 {
      // The streams, and the inputs of starved experts of one layer.
      work.spilled =
        2 * work.activations + dimensions.experts * CalibrationPolicy.usualTokens * dimensions.hidden * 4
    }
    let files = model.files.reduce(0) { $0 + $1.byteCount }
    // Kept weights, and pages of lent ones with as much again before they are given back.
    let weights = min(2 * files, maxMemory / 4 * 3) + (cached && files <= maxMemory / 2 ? files : 0)
    let logits = 2 * logitsChunk * dimensions.vocabulary * 4
    let widest = specs.map { $0.shape.count * 4 }.max() ?? 0
    work.memory =
      plan.peakMemoryBytes + Forecast.programBytes + atOnce * 5 / 4 + weights + logits
      + min(widest, maxMemory / 4)
      + layerStatistics
    return work
  }

  /// Statistics of one layer, in double precision while they are added up.
  private var layerStatistics: Int {
    var layers: [Int: Int] = [:]
    for spec in specs { layers[spec.layer ?? -1, default: 0] += 24 * spec.inputGroups * spec.shape.columns }
    return layers.values.max() ?? 0
  }

  /// A method that looks at inputs: another pass, moments of what each weight sees, and the choice of codes.
  func method(_ method: MethodOptions, _ windows: Windows) -> PassWork {
    var work = pass(windows, streams: 2, cached: true)
    work.operations *= method.isSequential ? 2 : 1
    let tokens = Double(windows.tokenCount)
    var moments: [Int: Int] = [:]
    var prepared = 0
    for weight in plan.weights where !weight.isKept && weight.stored.spec.isMultiplied {
      let spec = weight.stored.spec
      let (rows, columns) = (Double(spec.shape.rows), Double(spec.shape.columns))
      prepared += weight.resultEncoding.byteCount(of: spec.shape)
      guard method.needsMoments else {
        work.operations += 40 * rows * columns
        continue
      }
      // Symmetric moments; a factor of them, and each column's error spread over those behind it.
      work.operations +=
        tokens * share(spec) * columns * columns + 2 * columns * columns * columns + 4 * rows * columns
        * columns
      if method.distillRounds > 0 {
        work.operations += Double(8 * method.distillRounds) * rows * columns * columns
      }
      let bytes = method.momentBytes(spec.shape.columns) * (spec.name.expert == nil ? spec.inputGroups : 0)
      moments[spec.layer ?? -1, default: method.momentBytes(spec.shape.columns)] += bytes
    }
    work.memory += min(moments.values.max() ?? 0, maxMemory)
    work.spilled += prepared + prepared / 16 + (1 << 20)
    return work
  }

  /// Seconds that rounding takes, by the schemes of the plan.
  func roundingSeconds(_ rates: MachineRates) -> Double {
    var known: [String: Double] = [:]
    return plan.weights.reduce(0) { sum, weight in
      guard !weight.isKept else { return sum }
      let spec = weight.stored.spec
      let (scheme, columns) = (weight.decision.scheme, spec.shape.columns)
      let key = "\(scheme.name) \(weight.decision.options.observer.name) \(min(columns, 4096))"
      let rate =
        known[key]
        ?? rates.secondsPerNumber(
          scheme, columns: min(columns, 4096), observer: weight.decision.options.observer,
          hasImportances: weight.usesImportance)
      known[key] = rate
      return sum + rate * Double(spec.shape.count)
    }
  }

  /// Seconds that the codecs of an ingot take.
  func packingSeconds(_ rates: MachineRates, _ bytes: Int) -> Double {
    guard let mode = options.target.compression else { return 0 }
    return rates.secondsPerPackedByte(mode) * Double(plan.bytesOut)
  }
}

extension Plan {
  /// The most bytes of a result that are no weight's: small files, headers and names, an index with its ledger.
  func restBound(_ model: Model) throws -> Int {
    let files = try model.source.smallFiles().reduce(0) { $0 + $1.bytes.count }
    let names = weights.reduce(0) { $0 + 2048 + 4 * $1.stored.spec.name.description.utf8.count }
    return 2 * files + names + slabs.count * 8192 + (1 << 20)
  }
}
