// Weights that are rounded when they are asked for.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// Weights some of which are rounded when they are asked for.
struct RoundedWeights<Base: Weights>: ForwardingWeights {
  let base: Base
  let specs: [WeightName: WeightSpec]
  let recipe: Recipe
  let statistics: Statistics?
  let parallel: Parallel
  /// What was folded into the base's weights.
  let factors: [WeightName: FoldFactors]
  private let built = BuiltWeights()
  private let surveys: Surveys

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
    // Sources of other encodings than floats may get another scheme; only those alike share a number.
    surveys = Surveys(
      specs.values.sorted { $0.name.description < $1.name.description }.map {
        ($0, recipe.scheme(for: $0, source: Plain.f32))
      })
  }

  func weight(_ name: WeightName) throws -> Weight {
    guard let spec = specs[name] else { return try base.weight(name) }
    if let kept = built.find(name) { return kept }
    let source = try base.weight(name)
    var decision = try decision(spec, source)
    if surveys.isShared(name) {
      decision.options.surveyed = try surveys.number(name, decision.scheme) { other in
        guard other != name, let spec = specs[other] else { return SurveyPart(source, decision.options) }
        let part = try base.weight(other)
        return SurveyPart(part, try self.decision(spec, part).options)
      }
    }
    let weight = try decision.scheme.quantize(source, options: decision.options, parallel: parallel).weight
    built.keep(name, weight)
    return weight
  }

  private func decision(_ spec: WeightSpec, _ source: Weight) throws -> QuantizeDecision {
    var decision = try recipe.decide(spec, source: source.encoding, statistics: statistics)
    if let multipliers = factors[spec.name]?.multipliers {
      decision.options.importance = decision.options.importance?.divided(bySquaresOf: multipliers)
    }
    return decision
  }

  func finished(_ name: WeightName) {
    built.remove(name)
    base.finished(name)
  }
}
