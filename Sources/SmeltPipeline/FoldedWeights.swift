// Weights whose channels were divided and multiplied, made when they are asked for: a few at a time are in memory.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// A model's weights with factors folded in; those that no factor touches are the base's.
struct FoldedWeights<Base: Weights>: Weights {
  let base: Base
  let factors: [WeightName: FoldFactors]
  private let built = BuiltWeights()

  init(base: Base, factors: [WeightName: FoldFactors]) {
    self.base = base
    self.factors = factors
  }

  func weight(_ name: WeightName) throws -> Weight {
    guard let factors = factors[name] else { return try base.weight(name) }
    if let kept = built.find(name) { return kept }
    let weight = try factors.apply(try base.weight(name))
    base.finished(name)
    built.keep(name, weight)
    return weight
  }

  func finished(_ name: WeightName) {
    built.remove(name)
    base.finished(name)
  }
}

/// The factors of a model's layers for a method, chosen from statistics and weights alone.
struct FoldChooser<Base: Weights> {
  /// Experts of a layer that are looked at for a norm's factors, spread evenly.
  static var expertLimit: Int { 16 }

  let family: any ModelFamily
  let weights: Base
  let targets: [WeightName: MethodTarget]
  let statistics: Statistics
  let recipe: Recipe
  let parallel: Parallel

  /// The factors of all sites where they help, and a line on each for the notes.
  func choose(_ method: Method, layer: Int) throws -> [(site: FoldSite, factors: [Float], note: String)] {
    let specs = family.weights.filter { $0.layer == layer }
    let sites = FoldSite.all(specs, modelType: family.modelType)
    return try sites.compactMap { site in
      try Interrupt.check()
      let seen = try site.readers.compactMap { try statistics.entry($0) }.filter {
        $0.counts.allSatisfy { $0 > 0 }
      }
      guard let most = seen.max(by: { $0.counts[0] < $1.counts[0] }) else { return nil }
      let looked = spread(site.readers.filter { targets[$0] != nil })
      guard !looked.isEmpty else { return nil }
      defer { for name in looked { weights.finished(name) } }
      switch method {
      case .rtn, .gptq: return nil
      case .smooth:
        let largest = most.absmax ?? most.meanSquare.map { $0.squareRoot() }
        return (site, ChannelScaling.smooth(largest, try looked.map { try weights.weight($0) }), "smooth")
      case .awq:
        let readers = try looked.compactMap { name -> ScalingReader? in
          guard let target = targets[name] else { return nil }
          let weight = try weights.weight(name)
          let decision = try recipe.decide(target.spec, source: weight.encoding, statistics: statistics)
          guard decision.options.importance != nil || recipe.observer != .mse else { return nil }
          return ScalingReader(weight: weight, scheme: target.decision.scheme, options: decision.options)
        }
        guard !readers.isEmpty,
          let (factors, exponent) = try ChannelScaling.activationAware(
            most.meanSquare, readers, parallel: parallel)
        else { return nil }
        return (site, factors, "awq: exponent \(exponent)")
      }
    }
  }

  private func spread(_ names: [WeightName]) -> [WeightName] {
    let experts = Set(names.compactMap(\.expert)).sorted()
    guard experts.count > Self.expertLimit else { return names }
    let chosen = Set((0..<Self.expertLimit).map { experts[$0 * experts.count / Self.expertLimit] })
    return names.filter { $0.expert.map { chosen.contains($0) } ?? true }
  }
}
