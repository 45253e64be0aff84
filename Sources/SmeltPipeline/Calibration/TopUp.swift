// Which more windows of a text to calibrate with: a pass that looks at the routing alone, then a choice.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// Windows of the pool that reach experts which the drawn windows starve.
struct TopUp {
  /// For each window of the pool, the tokens it brings to starved experts, by `layer × experts + expert`.
  private(set) var gains: [[Int: Int]]
  /// The tokens that starved experts lack.
  private(set) var needs: [Int: Int] = [:]

  init(windows: Int) { gains = [[Int: Int]](repeating: [:], count: windows) }

  /// Adds what a layer's routing says; `drawn` windows come before the pool's.
  mutating func add(_ counts: [[Int32]], drawn: Int, layer: Int, minTokens: Int) {
    let experts = counts.first?.count ?? 0
    for expert in 0..<experts {
      let own = counts[..<drawn].reduce(0) { $0 + Int($1[expert]) }
      guard own < minTokens else { continue }
      let key = layer * experts + expert
      needs[key] = minTokens - own
      for window in gains.indices where counts[drawn + window][expert] > 0 {
        gains[window][key] = Int(counts[drawn + window][expert])
      }
    }
  }

  /// The windows to add, ascending. Each time the one that brings most of what is still lacking, the first of equals, until
  /// none brings anything. What a window brings only falls as others are chosen, so that a bound that was true once stays
  /// one. Source: Minoux, "Accelerated greedy algorithms for maximizing submodular set functions" (1978).
  func choice() -> [Int] {
    var needs = needs
    func gain(_ window: Int) -> Int { gains[window].reduce(0) { $0 + min($1.value, needs[$1.key] ?? 0) } }
    var bounds = gains.indices.map(gain)
    var chosen: [Int] = []
    while true {
      guard
        let best = bounds.indices.max(by: { bounds[$0] < bounds[$1] || bounds[$0] == bounds[$1] && $0 > $1 }),
        bounds[best] > 0
      else { return chosen.sorted() }
      let now = gain(best)
      guard now == bounds[best] else {
        bounds[best] = now
        continue
      }
      chosen.append(best)
      bounds[best] = 0
      for (key, count) in gains[best] { needs[key] = max(0, (needs[key] ?? 0) - count) }
    }
  }
}

/// Runs the drawn windows and the pool without watching anything but the routers, and chooses from the pool.
/// - Returns: places in the pool, ascending.
func topUpWindows(
  _ family: some ModelFamily, _ weights: some Weights, _ cache: WeightCache, _ windows: Windows,
  minTokens: Int, folder: String, _ options: RunOptions
) throws -> [Int] {
  guard !windows.pool.isEmpty, family.dimensions.experts > 0 else { return [] }
  let dimensions = family.dimensions
  let all = Windows(windows.sequences + windows.pool, context: windows.context)
  options.progress.begin("look for starved experts", total: dimensions.layers, unit: "layers")
  defer { options.progress.end() }
  let pass = Pass(parallel: options.parallel)
  var stream = try TokenStream(
    all.groups(dimensions, streams: 1, maxMemory: options.maxMemory), family, weights, folder: folder)
  var topUp = TopUp(windows: windows.pool.count)
  try LayerPass(family, cache, options.progress).run { layer in
    var counts: [[Int32]] = []
    try stream.update(pass) { batch, _, x, pass in
      guard let routing = try family.layer(layer, &x, batch, weights, pass) else { return }
      for window in 0..<batch.sequenceCount {
        var own = [Int32](repeating: 0, count: dimensions.experts)
        let tokens = batch.range(window)
        for expert in routing.experts[
          tokens.lowerBound * routing.perToken..<tokens.upperBound * routing.perToken]
        {
          own[Int(expert)] += 1
        }
        if batch.firstPosition > 0 {  // a further piece of the window
          for expert in own.indices { counts[counts.count - 1][expert] += own[expert] }
        } else {
          counts.append(own)
        }
      }
    }
    if !counts.isEmpty {
      topUp.add(counts, drawn: windows.sequences.count, layer: layer, minTokens: minTokens)
    }
  }
  return topUp.choice()
}
