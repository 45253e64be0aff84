// Schemes by measured sensitivity, within a budget of bytes: each layer runs once as it is and once for each role and
// candidate; what the layer's output loses is what the candidate costs. Formats/methods.md, section 5.

import SmeltModels
public import SmeltQuantization
public import SmeltStorage
import SmeltTensors

/// How many bytes a result may have.
public struct Budget: Sendable {
  /// A size.
  public enum Size: Sendable {
    /// Bytes of the whole result, small files included.
    case bytes(Int)
    /// Bits a parameter, all weights of the model together.
    case bits(Double)
  }

  /// The size.
  public var size: Size
  /// Schemes to choose from, by name; nil: those usual for the container.
  public var candidates: [String]?
  /// Where to write the recipe; nil: nowhere.
  public var recipePath: String?

  /// A budget.
  public init(_ size: Size, candidates: [String]? = nil, recipePath: String? = nil) {
    self.size = size
    self.candidates = candidates
    self.recipePath = recipePath
  }

  /// Tokens that the sensitivity is measured with.
  static let tokens = 2048

  fileprivate func schemes(_ target: any ResultTarget) throws -> [any Scheme] {
    let usual =
      switch target.name {
      case "safetensors": ["int4-group", "int8-channel"]
      default: ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0"]
      }
    return try (candidates ?? usual).map { try Schemes.named($0) } + [Keep()]
  }
}

/// What a budget came to.
public struct BudgetSummary: Sendable {
  /// The groups with their choices.
  public var groups: [BudgetGroup]
  /// The choice of each.
  public var chosen: [Int]
  /// Bytes that the weights may have, and will have.
  public var bytes: (allowed: Int, planned: Int)

  /// The table.
  public var text: String {
    var table = Table(["weights", "scheme", "bytes", "layer error"])
    for (group, place) in zip(groups, chosen) {
      let choice = group.choices[place]
      table.add([group.name, choice.scheme, byteText(choice.bytes), scientific(choice.error)])
    }
    return table.text + "\n\(byteText(bytes.planned)) of \(byteText(bytes.allowed))"
  }

  /// For machines.
  public var json: JSON {
    [
      "allowed_bytes": JSON(bytes.allowed), "planned_bytes": JSON(bytes.planned),
      "groups": JSON(
        zip(groups, chosen).map { group, place in
          [
            "name": JSON(group.name), "scheme": JSON(group.choices[place].scheme),
            "choices": JSON(
              group.choices.map {
                ["scheme": JSON($0.scheme), "bytes": JSON($0.bytes), "error": JSON($0.error)]
              }),
          ]
        }),
    ]
  }

  private func scientific(_ value: Double) -> String {
    guard value > 0 else { return "0" }
    var (exponent, rest) = (0, value)
    while rest < 1 { (exponent, rest) = (exponent - 1, rest * 10) }
    while rest >= 10 { (exponent, rest) = (exponent + 1, rest / 10) }
    return "\(fixed(rest, 2))e\(exponent)"
  }
}

/// Weights of one role in one layer.
private struct RoleGroup {
  let layer: Int
  let role: Role
  let specs: [WeightSpec]
}

/// Measures each role of each layer, and chooses.
/// - Returns: the recipe, and the table it was chosen from.
/// - Throws: `RequestError` usage when even the smallest choices are larger than the budget.
func choose(_ model: Model, _ windows: Windows, _ budget: Budget, _ options: ConvertOptions) throws -> (
  recipe: Recipe, summary: BudgetSummary
) {
  let schemes = try budget.schemes(options.target)
  let stored = Dictionary(uniqueKeysWithValues: try model.storedWeights().map { ($0.spec.name, $0) })
  var roles: [RoleGroup] = []
  for layer in 0..<model.family.dimensions.layers {
    let specs = model.family.weights.filter {
      $0.layer == layer && $0.role.isQuantizedByDefault && $0.isMultiplied
        && stored[$0.name]?.encoding is Plain
    }
    for role in Role.allCases {
      let own = specs.filter { $0.role == role }
      if !own.isEmpty { roles.append(RoleGroup(layer: layer, role: role, specs: own)) }
    }
  }
  let errors = try measure(model.family, model.weights, windows.first(Budget.tokens), roles, schemes, options)
  let groups = zip(roles, errors).map { role, errors in
    BudgetGroup(
      name: "blk.\(role.layer) \(role.role.rawValue)",
      choices: zip(schemes, errors).map { scheme, error in
        let bytes = role.specs.reduce(0) { sum, spec in
          guard let source = stored[spec.name] else { return sum }
          if scheme.keepsBytes { return sum + source.contentBytes }
          return sum + scheme.encoding(for: source.encoding, shape: spec.shape).byteCount(of: spec.shape)
        }
        return BudgetGroup.Choice(scheme: scheme.name, bytes: bytes, error: error)
      })
  }
  let grouped = Set(roles.flatMap { $0.specs.map(\.name) })
  let others = stored.values.reduce(0) { $0 + (grouped.contains($1.spec.name) ? 0 : $1.contentBytes) }
  let parameters = stored.values.reduce(0) { $0 + $1.spec.shape.count }
  let allowed =
    switch budget.size {
    case .bits(let bits): Int(bits * Double(parameters) / 8)
    case .bytes(let bytes): bytes - (try model.smallFiles().reduce(0) { $0 + $1.bytes.count })
    }
  guard let chosen = Budgeting.choose(groups, bytes: allowed - others) else {
    let least = others + groups.reduce(0) { $0 + ($1.choices.map(\.bytes).min() ?? 0) }
    throw RequestError(
      .usage, "the weights take at least \(byteText(least)), found a budget of \(byteText(allowed)) for them",
      help: "ask for more, or for schemes of fewer bits with --candidates")
  }
  var rules: [Recipe.Rule] = []
  for (role, choice) in zip(roles, chosen) where !schemes[choice].keepsBytes {
    for base in Set(role.specs.map(\.name.base)).sorted() {
      rules.append(Recipe.Rule(.name(base), schemes[choice]))
    }
  }
  let planned = others + zip(groups, chosen).reduce(0) { $0 + $1.0.choices[$1.1].bytes }
  return (
    Recipe(Keep(), rules: rules, observer: options.recipe.observer),
    BudgetSummary(groups: groups, chosen: chosen, bytes: (allowed, planned))
  )
}

/// For each group and scheme the relative square error of the layer's output; the layers' inputs are the source's.
private func measure(
  _ family: some ModelFamily, _ weights: some Weights, _ batch: TokenBatch, _ roles: [RoleGroup],
  _ schemes: [any Scheme], _ options: ConvertOptions
) throws -> [[Double]] {
  let pass = Pass(parallel: options.run.parallel)
  options.run.progress.begin("sensitivity", total: roles.count, unit: "groups")
  defer { options.run.progress.end() }
  var errors: [[Double]] = []
  var x = try family.embed(batch, weights)
  for layer in 0..<family.dimensions.layers {
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
          _ = try family.layer(layer, &z, batch, rounded, pass)
          let sum = zip(y.values, z.values).reduce(0.0) { sum, pair in
            let d = Double(pair.0) - Double(pair.1)
            return sum + d * d
          }
          return sum / max(norm, .leastNormalMagnitude)
        })
      options.run.progress.advance(1)
    }
    x = y
    giveBackFreeMemory()
  }
  return errors
}

/// Weights some of which are rounded when they are asked for.
struct RoundedWeights<Base: Weights>: Weights {
  let base: Base
  let specs: [WeightName: WeightSpec]
  let recipe: Recipe
  let statistics: Statistics?
  let parallel: Parallel
  /// What was folded into the base's weights.
  let factors: [WeightName: FoldFactors]
  private let built = BuiltWeights()

  init(
    base: Base, specs: [WeightName: WeightSpec], recipe: Recipe, statistics: Statistics?, parallel: Parallel,
    factors: [WeightName: FoldFactors] = [:]
  ) {
    self.factors = factors
    self.base = base
    self.specs = specs
    self.recipe = recipe
    self.statistics = statistics
    self.parallel = parallel
  }

  func weight(_ name: WeightName) throws -> Weight {
    guard let spec = specs[name] else { return try base.weight(name) }
    if let kept = built.find(name) { return kept }
    let source = try base.weight(name)
    var decision = try recipe.decide(spec, source: source.encoding, statistics: statistics)
    if let multipliers = factors[name]?.multipliers {
      decision.options.importance = decision.options.importance?.divided(bySquaresOf: multipliers)
    }
    let weight = try decision.scheme.quantize(source, options: decision.options, parallel: parallel).weight
    built.keep(name, weight)
    return weight
  }

  func finished(_ name: WeightName) {
    built.remove(name)
    base.finished(name)
  }
}

extension Windows {
  /// Windows of about so many tokens, spread over the text.
  func first(_ limit: Int) -> TokenBatch {
    let count = max(1, min(sequences.count, limit / max(1, context)))
    return TokenBatch((0..<count).map { sequences[$0 * sequences.count / count] })
  }
}
