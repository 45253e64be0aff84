// Weights in the order that a result wants, before they are rounded.

import SmeltModels
import SmeltTensors

/// Weights put in order for a result; used from any thread.
final class ArrangedWeights: Sendable {
  private let model: Model
  private let plan: Plan
  private let built = BuiltWeights()

  init(_ model: Model, _ plan: Plan) {
    self.model = model
    self.plan = plan
  }

  /// The matrix of a slab, its values not yet rounded.
  func weight(_ slab: OutputMatrix) throws -> Weight {
    let source = try source(slab)
    if slab.steps.isEmpty { return source }
    let key = WeightName(slab.name)
    if let kept = built.find(key) { return kept }
    var weight = source
    for step in slab.steps {
      if step == .alternating || step == .followed, let other = slab.other {
        weight = try weight.joined(
          with: try model.weights.weight(plan.weights[other].stored.spec.name), step)
      } else {
        weight = try weight.arranged(step)
      }
    }
    built.keep(key, weight)
    return weight
  }

  /// The slab's weight. Schemes look at every number they round, and what is kept as it lies is looked at piece by piece: a weight of
  /// plain numbers needs no scan before.
  private func source(_ slab: OutputMatrix) throws -> Weight {
    let stored = plan.weights[slab.weight].stored
    if !slab.isKept || slab.steps.isEmpty, stored.encoding is Plain, stored.prepared == nil {
      return try model.source.unscanned(stored.spec.name)
    }
    return try model.weights.weight(stored.spec.name)
  }

  /// The slab is written.
  func finished(_ slab: OutputMatrix) {
    if !slab.steps.isEmpty { built.remove(WeightName(slab.name)) }
    for place in [slab.weight, slab.other].compactMap({ $0 }) {
      model.weights.finished(plan.weights[place].stored.spec.name)
    }
  }
}
