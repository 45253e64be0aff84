// Weights whose channels were divided and multiplied, made when they are asked for: a few at a time are in memory.

import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

internal import Synchronization

/// A model's weights with factors folded in; those that no factor touches are the base's.
struct FoldedWeights<Base: Weights>: ForwardingWeights {
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
  /// - Parameter moments: those of each site's output, by the giver.
  func choose(_ method: Method, layer: Int, _ moments: [WeightName: Hessian]) throws -> [(
    site: FoldSite, factors: [Float], note: String
  )] {
    let specs = family.weights.filter { $0.layer == layer }
    let sites = FoldSite.all(specs)
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
          return ScalingReader(
            weight: weight, scheme: target.decision.scheme, options: decision.options,
            tokens: try statistics.entry(name)?.counts.max() ?? 0)
        }
        guard !readers.isEmpty, let moments = moments[site.giver],
          let (factors, exponent) = try ChannelScaling.activationAware(
            most.meanSquare, moments, readers, parallel: parallel)
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

/// Weights that gather the moments of what sites give: each site's first reader is watched, in the order of the table one
/// that sees all tokens where there is one.
final class SiteWeights<Base: Weights>: ForwardingWeights {
  let base: Base
  private let givers: [WeightName: WeightName]
  private let moments: Mutex<[WeightName: Hessian]> = Mutex([:])

  init(_ base: Base, _ sites: [FoldSite]) {
    self.base = base
    givers = Dictionary(sites.map { ($0.readers[0], $0.giver) }) { first, _ in first }
  }

  func multiply(_ x: Matrix, _ name: WeightName, rows: Range<Int>?, parallel: Parallel) throws -> Matrix {
    if let giver = givers[name], x.rows > 0 {
      moments.withLock { moments in
        let hessian = moments[giver] ?? Hessian(columns: x.columns)
        moments[giver] = hessian
        hessian.add(x, parallel: parallel)
      }
    }
    return try base.multiply(x, name, rows: rows, parallel: parallel)
  }

  /// Lends what was gathered, by giver, and forgets it.
  func take(_ body: ([WeightName: Hessian]) throws -> Void) rethrows {
    try moments.withLock { moments in
      try body(moments)
      moments = [:]
    }
  }
}
