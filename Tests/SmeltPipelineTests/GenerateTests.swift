// Greedy continuations equal the references', token for token; drawing is repeatable.

import SmeltModels
import SmeltPipeline
import SmeltStorage
import SmeltTestSupport
import Testing

@Suite struct GenerateTests {
  @Test(arguments: DecodingTests.models + ["tiny-v4"])
  func greedyContinuationEqualsTheReference(name: String) throws {
    let model = try Model.open(fixture("models/\(name)"))
    let reference = try Reference(of: name)
    let prompt = try reference.sequences("greedy.prompt_ids")[0]
    let expected = try reference.sequences("greedy.output_ids")[0]
    // The reference may hold the prompt as well, and does not stop at the end token.
    let wanted =
      expected.starts(with: prompt) && expected.count > prompt.count
      ? Array(expected.dropFirst(prompt.count)) : expected
    let made = try generate(
      model, prompt: prompt, maxTokens: wanted.count, sampling: Sampling(), stops: [],
      RunOptions(parallel: .serial))
    #expect(made == wanted)
  }

  @Test func theSameSeedDrawsTheSameTokens() throws {
    let model = try Model.open(fixture("models/deepseek_v4"))
    func draw(_ seed: UInt64, topK: Int? = nil, topP: Double? = nil) throws -> [Int] {
      try generate(
        model, prompt: [1, 2, 3], maxTokens: 12,
        sampling: Sampling(temperature: 1, topK: topK, topP: topP, seed: seed), stops: [],
        RunOptions(parallel: .serial))
    }
    #expect(try draw(7) == draw(7))
    #expect(try draw(7) != draw(8))
    let greedy = try generate(
      model, prompt: [1, 2, 3], maxTokens: 12, sampling: Sampling(), stops: [], RunOptions(parallel: .serial))
    #expect(try draw(7, topK: 1) == greedy)
    #expect(try draw(7, topP: 1e-9) == greedy)
  }

  @Test func stopsAfterAnEndToken() throws {
    let model = try Model.open(fixture("models/deepseek_v4"))
    let free = try generate(
      model, prompt: [5], maxTokens: 8, sampling: Sampling(), stops: [], RunOptions(parallel: .serial))
    let stopped = try generate(
      model, prompt: [5], maxTokens: 8, sampling: Sampling(), stops: [free[2]], RunOptions(parallel: .serial))
    #expect(stopped == Array(free.prefix((free.firstIndex(of: free[2]) ?? 0) + 1)))
  }

  @Test func emptyPromptIsRefused() throws {
    let model = try Model.open(fixture("models/deepseek_v4"))
    #expect(throws: RequestError.self) {
      _ = try generate(model, prompt: [], maxTokens: 1, sampling: Sampling(), stops: [], RunOptions())
    }
  }
}
