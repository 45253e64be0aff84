// How far two routers agree, layer by layer and expert by expert.

import SmeltModels

extension Comparison {
  /// Sums of a layer's router agreement: whole numbers, so that the sums of some windows and of others add up to those of all.
  struct RouterSums {
    var tokens = 0
    var sameSet = 0
    /// By expert: tokens that the source sent to it.
    var chosen: [Int] = []
    /// By expert: those of them that the result did not send to it.
    var missed: [Int] = []

    /// Adds the choices of both sides for the same tokens.
    mutating func add(_ source: Routing, _ result: Routing) {
      let (k, other) = (source.perToken, result.perToken)
      for token in 0..<source.experts.count / k {
        let own = source.experts[token * k..<(token + 1) * k]
        let its = result.experts[token * other..<(token + 1) * other]
        // Both ascend, so that one walk finds what they share.
        var (place, shared) = (its.startIndex, 0)
        for expert in own {
          while place < its.endIndex, its[place] < expert { place += 1 }
          let isShared = place < its.endIndex && its[place] == expert
          shared += isShared ? 1 : 0
          count(Int(expert), isShared: isShared)
        }
        tokens += 1
        sameSet += shared == k && other == k ? 1 : 0
      }
    }

    private mutating func count(_ expert: Int, isShared: Bool) {
      while chosen.count <= expert {
        chosen.append(0)
        missed.append(0)
      }
      chosen[expert] += 1
      missed[expert] += isShared ? 0 : 1
    }
  }
}

extension Report.RouterAgreement {
  /// The shares, and the counts of as many experts as the layer has.
  init(layer: Int, _ sums: Comparison.RouterSums, experts: Int) {
    func filled(_ counts: [Int]) -> [Int] {
      counts + Array(repeating: 0, count: max(0, experts - counts.count))
    }
    self.layer = layer
    setAgreement = Double(sums.sameSet) / Double(sums.tokens)
    // Every token has the same number of experts: the mean of the shares is the share of all.
    let chosen = sums.chosen.reduce(0, +)
    meanOverlap = Double(chosen - sums.missed.reduce(0, +)) / Double(chosen)
    (self.chosen, missed) = (filled(sums.chosen), filled(sums.missed))
  }
}
