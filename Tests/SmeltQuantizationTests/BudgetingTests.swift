// The choice within a budget against trying everything.

import SmeltQuantization
import SmeltTestSupport
import Testing

@Suite struct BudgetingTests {
  private func groups(_ generator: inout Generator) -> [BudgetGroup] {
    (0..<5).map { place in
      let scale = Double.random(in: 0.1...3, using: &generator)
      return BudgetGroup(
        name: "\(place)",
        choices: [(4, 1.0), (6, 0.2), (8, 0.01), (16, 0)].map {
          BudgetGroup.Choice(scheme: "\($0.0)", bytes: $0.0 * (place + 1), error: $0.1 * scale)
        })
    }
  }

  @Test func isWithinTheBudgetAndNearTheBest() throws {
    var generator = Generator(seed: 2)
    for bytes in stride(from: 60, through: 240, by: 12) {
      let groups = groups(&generator)
      let chosen = try #require(Budgeting.choose(groups, bytes: bytes))
      func cost(_ places: [Int]) -> (bytes: Int, error: Double) {
        zip(groups, places).reduce((0, 0)) {
          ($0.0 + $1.0.choices[$1.1].bytes, $0.1 + $1.0.choices[$1.1].error)
        }
      }
      #expect(cost(chosen).bytes <= bytes)
      var best = Double.infinity
      for number in 0..<1024 {
        let found = cost((0..<5).map { number >> (2 * $0) & 3 })
        if found.bytes <= bytes { best = min(best, found.error) }
      }
      #expect(cost(chosen).error <= 1.5 * best + 0.5, "\(bytes) bytes: \(cost(chosen).error), best \(best)")
      // No uniform choice that fits is better.
      for place in 0..<4 where cost([Int](repeating: place, count: 5)).bytes <= bytes {
        #expect(cost(chosen).error <= cost([Int](repeating: place, count: 5)).error + 1e-12)
      }
    }
    #expect(Budgeting.choose(groups(&generator), bytes: 59) == nil)
  }
}
