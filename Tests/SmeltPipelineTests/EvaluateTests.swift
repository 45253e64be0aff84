// Perplexity against the reference implementation's, and what must not change it.

import SmeltModels
import SmeltPipeline
import SmeltStorage
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

private let name = "tiny-v4"

private func textWindows(_ model: Model, limit: Int? = nil) throws -> Windows {
  try Windows(textPath: fixture("models/\(name)/evaluation.txt"), context: 256, limit: limit, model: model)
}

@Suite struct EvaluateTests {
  @Test func firstWindowEqualsTheReferenceLogits() throws {
    let model = try openFixture(name)
    let reference = try Reference(of: name)
    let sequences = try reference.sequences("input_ids")
    let windows = try textWindows(model, limit: 256 + 17)
    #expect(windows.sequences == sequences)
    let logits = try #require(reference.floats("logits"))
    let vocabulary = model.family.dimensions.vocabulary
    var total = 0.0
    for (index, ids) in sequences.enumerated() {
      for position in 0..<ids.count - 1 {
        let start = (index * ids.count + position) * vocabulary
        let row = logits[start..<start + vocabulary]
        let top = Double(row.max() ?? 0)
        let sum = row.reduce(0.0) { $0 + exp(Double($1) - top) }
        total += top + log(sum) - Double(row[start + ids[position + 1]])
      }
    }
    let evaluation = try evaluate(model, windows, RunOptions())
    #expect(evaluation.predictedTokens == 255 && evaluation.windows == 1)
    // Logits differ by 2e-5 between the implementations; their errors average out over the tokens.
    #expect(abs(evaluation.meanNLL - total / 255) < 1e-6)
    #expect(evaluation.perplexity == exp(evaluation.meanNLL))
  }

  @Test func wholeTextEqualsTheReference() throws {
    let model = try openFixture(name)
    let reference = try JSON.scan(Bytes(try contents(fixture("models/\(name)/reference.json"))))
    let evaluation = try evaluate(model, try textWindows(model), RunOptions())
    #expect(evaluation.windows == reference["windows"]?.integer)
    #expect(evaluation.predictedTokens == reference["predicted_tokens"]?.integer)
    let expected = try #require(reference["perplexity"]?.double)
    #expect(
      abs(evaluation.perplexity / expected - 1) < 1e-4, "\(evaluation.perplexity), expected \(expected)")
  }

  @Test func memoryThreadsAndContainerChangeNoDigit() throws {
    let folder = TemporaryFolder()
    let model = try openFixture(name)
    let windows = try textWindows(model, limit: 2 * 256)
    let expected = try evaluate(model, windows, RunOptions()).meanNLL
    #expect(windows.groups(model.family.dimensions, streams: 1, maxMemory: 1).count == 2)
    let small = RunOptions(parallel: .serial, maxMemory: 1)
    #expect(try evaluate(model, windows, small).meanNLL == expected)
    _ = try convert(model, to: folder.file("kept.ingot"), try options("keep", compression: .fast))
    let ingot = try Model.open(folder.file("kept.ingot"))
    #expect(try textWindows(ingot, limit: 2 * 256).sequences == windows.sequences)
    #expect(try evaluate(ingot, windows, RunOptions()).meanNLL == expected)
  }

  @Test func textsThatCannotBeCutAreRefused() throws {
    let folder = TemporaryFolder()
    let short = folder.file("short.txt")
    try writeFile(short, Array("Not enough.".utf8), overwrite: false)
    #expect {
      _ = try Windows(textPath: short, context: 256, model: try openFixture(name))
    } throws: { ($0 as? FormatError)?.code == .text }
    #expect {
      _ = try Windows(textPath: short, context: 2, model: try openFixture("deepseek_v4"))
    } throws: { ($0 as? FormatError)?.code == .missingFile }
  }
}
