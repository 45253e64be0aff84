// Schemes by measured sensitivity, within a budget of bytes: each layer runs once as it is and once for each role and
// candidate; what the layer's output loses is what the candidate costs. Formats/methods.md, section 5.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// How many bytes a result may have.
package struct Budget: Sendable {
  /// A size.
  package enum Size: Sendable {
    /// Bytes of the whole result, small files included.
    case bytes(Int)
    /// Bits a parameter, all weights of the model together.
    case bits(Double)
  }

  /// The size.
  package var size: Size
  /// Schemes to choose from, by name; nil: those usual for the container.
  package var candidates: [String]?
  /// Where to write the recipe; nil: nowhere.
  package var recipePath: String?

  /// A budget.
  package init(_ size: Size, candidates: [String]? = nil, recipePath: String? = nil) {
    self.size = size
    self.candidates = candidates
    self.recipePath = recipePath
  }

  /// Tokens that the sensitivity is measured with.
  static let tokens = 2048

  /// The scheme of any number of bits.
  package static var codedScheme: String { Int8Coded.usual.name }

  /// What is chosen from, in this order.
  fileprivate func schemes(_ target: any ResultTarget) throws -> [any Scheme] {
    let usual =
      switch target.name {
      case "safetensors": ["int4-group", "int8-channel"]
      default: ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0"]
      }
    return try (candidates ?? usual).flatMap { name -> [any Scheme] in
      let scheme = try Schemes.named(name)
      // The one without a number stands for all of them.
      guard scheme.name == Int8Coded.usual.name else { return [scheme] }
      return stride(from: 2, through: 8.5, by: 0.125).map { Int8Coded(bits: $0) }
    } + [Keep()]
  }

  /// What a weight takes in the index and the ledger of an ingot, about.
  fileprivate static let indexBytes = 400

  /// The bits of `int8-coded` that are run; what lies between is interpolated.
  fileprivate static let measuredBits = [3.0, 4, 5, 6, 7, 8, 8.5]
}

/// Weights of one role in one layer, or of several where engines have one scheme for all of them.
struct RoleGroup {
  let layer: Int
  var roles: [Role]
  /// Those of blocks that draft tokens stand with the last layer's: they resemble it.
  var specs: [WeightSpec]
}

/// What a budget chooses between: groups of weights and the bytes that each scheme would give them.
struct BudgetTable {
  private let schemes: [any Scheme]
  let roles: [RoleGroup]
  /// Bytes by group and scheme.
  fileprivate let sizes: [[Int]]
  /// Bytes of all other weights.
  private let others: Int
  /// Bytes that all weights may have, by what is known before they are written.
  let allowed: Int
  /// The most bytes of all files of the result; nil where the budget is of bits.
  let target: Int?

  /// The table of a model.
  /// - Throws: `RequestError` usage when even the smallest choices are larger than the budget.
  init(_ model: Model, _ budget: Budget, _ options: ConvertOptions) throws {
    let schemes = try budget.schemes(options.target)
    let held = try model.storedWeights().filter {
      (options.drafts.leaves($0.spec) ?? options.target.leaves($0.spec, model)) == nil
    }
    let stored = Dictionary(uniqueKeysWithValues: held.map { ($0.spec.name, $0) })
    var roles: [RoleGroup] = []
    for layer in 0..<model.family.dimensions.layers {
      let specs = model.family.weights.filter {
        $0.layer == layer && $0.role.isQuantizedByDefault && $0.isMultiplied
          && stored[$0.name]?.encoding is Plain
      }
      for role in Role.allCases {
        let own = specs.filter { $0.role == role }
        if !own.isEmpty { roles.append(RoleGroup(layer: layer, roles: [role], specs: own)) }
      }
    }
    if options.target.isLoadedFused { roles = BudgetTable.fused(roles) }
    for spec in model.drafts where options.drafts == .quantize && stored[spec.name]?.encoding is Plain {
      guard let last = roles.lastIndex(where: { $0.roles.contains(spec.role) }) else { continue }
      roles[last].specs.append(spec)
    }
    self.schemes = schemes
    self.roles = roles
    sizes = roles.map { role in
      schemes.map { scheme in
        role.specs.reduce(0) { sum, spec in
          guard let source = stored[spec.name] else { return sum }
          if scheme.keepsBytes { return sum + source.contentBytes }
          if let coded = scheme as? Int8Coded {
            return sum + Int(Double(spec.shape.count) * coded.bits / 8) + coded.rawScaleBytes(spec.shape)
          }
          return sum + scheme.encoding(for: source.encoding, shape: spec.shape).byteCount(of: spec.shape)
        }
      }
    }
    let grouped = Set(roles.flatMap { $0.specs.map(\.name) })
    let mode = options.target.compression ?? .raw
    others = try stored.values.reduce(0) { sum, weight in
      guard !grouped.contains(weight.spec.name) else { return sum }
      return try sum + Int(Double(weight.contentBytes) * model.storedShare(weight.spec.name, mode))
    }
    let parameters = stored.values.reduce(0) { $0 + $1.spec.shape.count }
    allowed =
      switch budget.size {
      case .bits(let bits): Int(bits * Double(parameters) / 8)
      case .bytes(let bytes): try bytes - model.restBytes(stored.count, mode)
      }
    target = if case .bytes(let bytes) = budget.size { bytes } else { nil }
    guard target == nil, least > allowed else { return }
    throw RequestError(
      .usage,
      "the weights take at least \(byteText(least)), found a budget of \(byteText(max(0, allowed))) for them",
      help: "ask for more, or for schemes of fewer bits with --candidates")
  }

  /// Roles of a layer that engines have one scheme for become one group.
  private static func fused(_ roles: [RoleGroup]) -> [RoleGroup] {
    var fused: [RoleGroup] = []
    for role in roles {
      let matrices = Set(role.specs.compactMap(\.fusionGroup))
      let place = fused.firstIndex { other in
        guard other.layer == role.layer else { return false }
        return other.roles.contains(where: \.isRouted) && role.roles.contains(where: \.isRouted)
          || other.specs.contains { $0.fusionGroup.map(matrices.contains) ?? false }
      }
      guard let place else {
        fused.append(role)
        continue
      }
      fused[place].roles += role.roles
      fused[place].specs += role.specs
    }
    return fused
  }

  /// The least that all weights may take, by estimate.
  var least: Int { others + sizes.reduce(0) { $0 + ($1.min() ?? 0) } }

  /// The smallest scheme for every group.
  func smallest() -> Recipe {
    recipe(sizes.map { row in row.indices.min { row[$0] < row[$1] } ?? 0 }, observer: .absmax)
  }

  /// Whether codes for an entropy coder are all there is to choose from.
  var isUniform: Bool { schemes.dropLast().allSatisfy { $0 is Int8Coded } }

  /// The schemes that are run to see what they cost.
  var measured: [any Scheme] {
    schemes.filter { ($0 as? Int8Coded).map { Budget.measuredBits.contains($0.bits) } ?? true }
  }

  /// The error of each scheme by those of the measured ones. Between two numbers of bits the error falls as a power of two.
  private func errors(_ found: [Double]) -> [Double] {
    let measured = measured
    let coded = zip(measured, found).compactMap { scheme, error in
      (scheme as? Int8Coded).map { (bits: $0.bits, error: error) }
    }
    return schemes.map { scheme in
      if let place = measured.firstIndex(where: { $0.name == scheme.name }) { return found[place] }
      guard let bits = (scheme as? Int8Coded)?.bits, let first = coded.first else { return .infinity }
      guard bits > first.bits else { return first.error * powered(4, first.bits - bits) }
      let after = coded.firstIndex { $0.bits >= bits } ?? coded.count - 1
      let (low, high) = (coded[max(0, after - 1)], coded[after])
      guard low.error > 0, high.error > 0 else { return max(low.error, high.error) }
      return low.error * powered(high.error / low.error, (bits - low.bits) / (high.bits - low.bits))
    }
  }

  /// All groups in as many bits a code as the budget has room for, without a look at the data.
  /// - Parameter allowed: the bytes that all weights may have.
  func uniform(_ allowed: Int) -> (recipe: Recipe, bits: Double) {
    let shapes = roles.flatMap(\.specs).reduce(into: [Shape: Int]()) { $0[$1.shape, default: 0] += 1 }
    let range = Int8Coded.range
    // Scales come by the group that the bits ask for: the most bits that fit are looked for from above.
    var bits = range.upperBound
    while bits > range.lowerBound {
      let coded = Int8Coded(bits: bits)
      let bytes = shapes.reduce(0.0) {
        $0 + Double($1.value) * (Double($1.key.count) * bits / 8 + Double(coded.rawScaleBytes($1.key)))
      }
      if bytes <= Double(allowed - others) { break }
      bits = ((bits - 0.001) * 1000).rounded() / 1000
    }
    bits = max(bits, range.lowerBound)
    return (Recipe(Int8Coded(bits: bits)), bits)
  }

  /// The choice of least error within the budget.
  /// - Parameters:
  ///   - found: errors by group and measured scheme.
  ///   - allowed: the bytes that all weights may have; where even the smallest choices take more, those are taken.
  func choose(_ found: [[Double]], _ allowed: Int, observer: Observer?) -> (
    recipe: Recipe, summary: BudgetSummary
  ) {
    let errors = found.map(errors)
    let groups = roles.indices.map { place in
      BudgetGroup(
        name: "blk.\(roles[place].layer) \(roles[place].roles.map(\.rawValue).joined(separator: "+"))",
        choices: schemes.indices.map {
          BudgetGroup.Choice(scheme: schemes[$0].name, bytes: sizes[place][$0], error: errors[place][$0])
        })
    }
    guard let chosen = Budgeting.choose(groups, bytes: max(allowed, least) - others) else {
      preconditionFailure("the smallest choices fit")
    }
    let planned = others + zip(groups, chosen).reduce(0) { $0 + $1.0.choices[$1.1].bytes }
    return (
      recipe(chosen, observer: observer),
      BudgetSummary(groups: groups, chosen: chosen, bytes: (allowed, planned))
    )
  }

  /// The recipe of one scheme for each group.
  private func recipe(_ chosen: [Int], observer: Observer?) -> Recipe {
    var rules: [Recipe.Rule] = []
    for (role, choice) in zip(roles, chosen) where !schemes[choice].keepsBytes {
      for base in Set(role.specs.map(\.name.base)).sorted() {
        rules.append(Recipe.Rule(.name(base), schemes[choice]))
      }
    }
    return Recipe(Keep(), rules: rules, observer: observer)
  }
}

extension Model {
  /// Bytes of a result that are no weight's: small files, and an ingot's index and ledger.
  fileprivate func restBytes(_ weights: Int, _ mode: CodecMode) throws -> Int {
    var sum = mode == .raw ? 0 : Budget.indexBytes * weights
    for file in try source.smallFiles() {
      sum += try FrameCodec.storedBytes(file.bytes, .u8, mode == .raw ? .raw : .small)
    }
    return sum
  }

  /// The share of a weight's bytes that an ingot stores, by the first chunk of its codes.
  fileprivate func storedShare(_ name: WeightName, _ mode: CodecMode) throws -> Double {
    guard mode != .raw else { return 1 }
    let weight = try source.weight(name)
    defer { source.finished(name) }
    let sample = weight.values.bytes[0..<min(weight.values.bytes.count, FrameCodec.chunkBytes)]
    guard sample.count > 0 else { return 1 }
    let stored = try FrameCodec.storedBytes(sample, weight.values.dtype, mode)
    return Double(stored) / Double(sample.count)
  }
}

extension Int8Coded {
  /// Bytes of a weight's scales that no coder makes smaller: those of channels, and those of groups where they are few.
  fileprivate func rawScaleBytes(_ shape: Shape) -> Int {
    guard let group else { return 4 * shape.rows }
    let bytes = 2 * shape.rows * ceilDivide(shape.columns, group)
    return bytes < ChunkCodec.smallestCompressed ? bytes : 0
  }
}

extension FrameCodec {
  /// The bytes that some content takes once it is stored.
  fileprivate static func storedBytes(_ content: Bytes, _ dtype: DType, _ mode: CodecMode) throws
    -> Int
  {
    guard mode != .raw, content.count > 0 else { return content.count }
    let form = try choose(content: content, dtype: dtype, mode: mode)
    return try (0..<chunkCount(content.count)).reduce(0) {
      try $0 + encode(content[chunkRange($1, of: content.count)], form).stored.count
    }
  }
}

/// For each group and scheme the relative square error of the layer's output; the layers' inputs are the source's.
func measureSensitivity(
  _ family: some ModelFamily, _ weights: some Weights, _ batch: TokenBatch, _ roles: [RoleGroup],
  _ schemes: [any Scheme], _ options: ConvertOptions
) throws -> [[Double]] {
  let pass = Pass(parallel: options.run.parallel)
  options.run.progress.begin("sensitivity", total: roles.count, unit: "groups")
  defer { options.run.progress.end() }
  var errors: [[Double]] = []
  var x = try family.embed(batch, weights)
  try LayerPass(family, nil, SilentProgress()).run { layer in
    var y = x
    _ = try family.layer(layer, &y, batch, weights, pass)
    let norm = y.values.reduce(0.0) { $0 + Double($1) * Double($1) }
    for role in roles where role.layer == layer {
      try Interrupt.check()
      errors.append(
        try schemes.map { scheme in
          if scheme.keepsBytes { return 0 }
          var recipe = Recipe(scheme, observer: options.recipe.observer)
          recipe.rules = role.specs.map { Recipe.Rule(.name($0.name.base), scheme) }
          let rounded = RoundedWeights(
            base: weights, specs: Dictionary(uniqueKeysWithValues: role.specs.map { ($0.name, $0) }),
            recipe: recipe,
            statistics: options.statistics, parallel: options.run.parallel)
          var z = x
          _ = try family.layer(layer, &z, batch.separated(), rounded, pass)
          let sum = zip(y.values, z.values).reduce(0.0) { sum, pair in
            let d = Double(pair.0) - Double(pair.1)
            return sum + d * d
          }
          return sum / max(norm, .leastNormalMagnitude)
        })
      options.run.progress.advance(1)
    }
    x = y
  }
  return errors
}

extension Windows {
  /// Windows of about so many tokens, spread over the text; of a longer one its first tokens.
  func first(_ limit: Int) -> TokenBatch {
    let count = max(1, min(sequences.count, limit / max(1, context)))
    return TokenBatch((0..<count).map { Array(sequences[$0 * sequences.count / count].prefix(limit)) })
  }
}

extension Budget {
  /// How many schemes are run to see what they cost.
  /// - Throws: `RequestError` usage for an unknown candidate.
  func measuredCount(_ target: any ResultTarget) throws -> Int {
    try schemes(target).count { ($0 as? Int8Coded).map { Budget.measuredBits.contains($0.bits) } ?? true }
  }

  /// Refuses what nothing meets, and gives the recipe of the smallest choices.
  /// - Throws: `RequestError` usage.
  func smallestRecipe(_ model: Model, _ options: ConvertOptions) throws -> Recipe {
    let table = try BudgetTable(model, self, options)
    // Estimates of what codecs make of weights are good to a few parts in a hundred.
    if let target = table.target, table.least - table.least / 32 > table.allowed {
      throw RequestError(
        .usage,
        "the weights take at least about \(byteText(table.least)), and --target-size \(byteText(target)) leaves \(byteText(max(0, table.allowed))) for them",
        help: "ask for more, or for schemes of fewer bits with --candidates")
    }
    return table.smallest()
  }
}
