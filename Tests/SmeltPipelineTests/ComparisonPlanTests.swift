// Which windows the noise floor and the forced routing are measured on, and that a sample says what all windows say of it.

import SmeltModels
import SmeltStorage
import SmeltTestSupport
import Testing

@testable import SmeltPipeline

@Suite struct ComparisonPlanTests {
  @Test func theSampleIsSpread() {
    func spread(_ lengths: [Int]) -> [Int] { ComparisonPlan.spread(lengths) }
    #expect(spread(Array(repeating: 512, count: 16)) == [0, 4, 8, 12])
    #expect(spread(Array(repeating: 500, count: 16)) == [0, 3, 6, 9, 12])
    #expect(spread(Array(repeating: 8192, count: 3)) == [0])
    #expect(spread(Array(repeating: 512, count: 3)) == [0, 1, 2])
    #expect(spread([1]) == [0] && spread([]) == [])
    // Windows of several lengths: as many as have enough together.
    let lengths = (0..<100).map { $0 % 10 == 0 ? 300 : 10 }
    let places = spread(lengths)
    #expect(places.reduce(0) { $0 + lengths[$1] } >= 2048 && places.first == 0)
  }

  @Test func groupsDoNotChangeTheSample() throws {
    let model = try openFixture("deepseek_v3")
    let windows = Windows((0..<24).map { n in (0..<128).map { ($0 * 7 + n) % 60 + 1 } }, context: 128)
    func ids(_ memory: Int, isFull: Bool = false) -> [[Int]] {
      let plan = ComparisonPlan(
        windows, model.family.dimensions, hasRounding: false, isFull: isFull,
        RunOptions(parallel: .serial, maxMemory: memory))
      #expect((plan.groups.count > 1) == (memory == 1))
      for sample in plan.samples {
        #expect(sample.places.map { plan.groups[sample.group].ids[$0] } == sample.batch.ids)
        #expect(sample.rows(in: 0..<plan.groups[sample.group].count) == 0..<sample.places.count)
        let half = sample.places[sample.places.count / 2]
        #expect(sample.rows(in: half..<half + 1) == sample.places.count / 2..<sample.places.count / 2 + 1)
      }
      return plan.samples.flatMap { sample in
        (0..<sample.batch.sequenceCount).map { Array(sample.batch.ids[sample.batch.range($0)]) }
      }
    }
    #expect(ids(1).count == 16 && ids(1) == ids(1 << 30))
    #expect(ids(1, isFull: true) == windows.sequences && ids(1 << 30, isFull: true) == windows.sequences)
  }

  /// Each sampled token has the divergence that the pass over all windows gives it.
  @Test func aSampleSaysWhatAllWindowsSay() throws {
    let folder = TemporaryFolder()
    let source = try openFixture("deepseek_v3")
    let path = folder.file("r.ingot")
    _ = try convert(source, to: path, try options("int8-channel"))
    let result = try Model.open(path)
    let vocabulary = source.family.dimensions.vocabulary
    let windows = Windows(
      (0..<20).map { n in (0..<128).map { ($0 * $0 * 5 + n * 3) % (vocabulary - 1) } }, context: 128)
    func measured(_ isFull: Bool, memory: Int) throws -> Comparison {
      let options = RunOptions(parallel: .serial, maxMemory: memory)
      let plan = ComparisonPlan(
        windows, source.family.dimensions, hasRounding: false, isFull: isFull, options)
      var comparison = Comparison(source.family.dimensions.layers)
      _ = try comparison.run(
        plan, source.family, source.weights, result.family, result.weights, options)
      return comparison
    }
    let (all, part) = (try measured(true, memory: 1 << 30), try measured(false, memory: 1 << 30))
    #expect(all.divergences == part.divergences && all.sampleDivergences == all.divergences)
    #expect(part.sampleDivergences.count == 2048 && all.forcedDivergences.count == 2560)
    let places = ComparisonPlan.spread(Array(repeating: 128, count: 20)).flatMap { $0 * 128..<($0 + 1) * 128 }
    #expect(part.sampleDivergences == places.map { all.divergences[$0] })
    #expect(part.forcedDivergences == places.map { all.forcedDivergences[$0] })
    #expect(part.floorDivergences == places.map { all.floorDivergences[$0] })
    #expect(part.forcedDivergences != part.sampleDivergences)
    let spilled = try measured(false, memory: 1)
    #expect(spilled.forcedDivergences == part.forcedDivergences)
    #expect(spilled.floorDivergences == part.floorDivergences)
  }
}
