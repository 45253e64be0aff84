// Every golden model through quantization and proof; and what --allow-drop leaves out.

import SmeltModels
import SmeltPipeline
import SmeltStorage
import SmeltTestSupport
import Testing

/// Golden models by layout and family, without those that are another's twin.
private let models = DecodingTests.models

@Suite struct FamilyTests {
  @Test(arguments: models, ["int8-channel", "fp8-channel"])
  func everyFamilyIsQuantizedAndVerified(name: String, scheme: String) throws {
    let folder = TemporaryFolder()
    let source = try openFixture(name)
    let summary = try convert(source, to: folder.file("a.ingot"), try options(scheme))
    #expect(summary.ledger.allSatisfy { $0.fate == .dropped || $0.weight != nil })
    #expect(summary.ledger.contains { $0.fate == .converted })
    let result = try Model.open(folder.file("a.ingot"))
    let report = try verify(
      source: source, result: result, try referenceWindows(name), thresholds: Thresholds(maxKL: 10),
      RunOptions(parallel: Parallel(threads: 2)))
    // Random weights: a flipped expert may cost a lot, but nothing is out of proportion.
    #expect(report.passes && report.kl.mean.isFinite)
    #expect(report.weights.allSatisfy { $0.relativeError < 0.05 }, "an 8-bit weight is within 5 %")
    #expect(report.weights.count == source.family.weights.count)
  }
}

@Suite struct AllowDropTests {
  private let path = fixture("malformed/checkpoint/unknown-tensor")

  @Test func aTensorThatNoRuleExplainsIsLeftOutOnRequestAndSaid() throws {
    let error = #expect(throws: FormatError.self) { _ = try Model.open(path) }
    #expect(error?.code == .unknownTensor && error?.exitStatus == 3)
    let model = try Model.open(path, allowDrop: ["layers.?.attn.wq_c.*"])
    let plan = try Plan(model, try options("keep"))
    let dropped = plan.ledger.filter { $0.fate == .dropped }
    #expect(dropped.map(\.source) == ["layers.0.attn.wq_c.weight"])
    #expect(dropped.first?.rule == "allow-drop layers.?.attn.wq_c.*")
  }

  @Test func aPatternThatMatchesNothingHelpsNothing() {
    #expect(throws: FormatError.self) { _ = try Model.open(path, allowDrop: ["layers.9.*"]) }
  }
}
