// A checkpoint whose tokenizer is no tokenizer.json: its text becomes ids, from the folder and from an ingot of it.

import SmeltModels
@testable import SmeltPipeline
import SmeltStorage
import SmeltTestSupport
import SmeltTokenizers
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

@Suite struct TokenizerSourceTests {
  private let folder = TemporaryFolder()

  /// A checkpoint in `m` with the files of a folder of Fixtures/tokenizers/files.
  private func model(_ name: String) throws -> Model {
    mkdir(folder.file("m"), 0o755)
    try makeCheckpoint(in: folder.file("m"), experts: 2, expertWidth: 32)
    let source = fixture("tokenizers/files/\(name)")
    for file in try namesInFolder(source) {
      try writeFile(folder.file("m/\(file)"), try contents(joinPath(source, file)), overwrite: true)
    }
    return try Model.open(folder.file("m"))
  }

  @Test(arguments: [
    ("kimi", "tiktoken.model"), ("spm-bpe", "tokenizer.model"), ("spm-nmt", "spiece.model"),
    ("unigram", "tokenizer.json"),
  ]) func aTextBecomesIds(name: String, file: String) throws {
    let model = try model(name)
    let tokenizer = try model.tokenizer()
    #expect(tokenizer.file == file)
    let text = "The river had risen in the night."
    let ids = tokenizer.encode(text)
    #expect(ids.count > 5 && String(decoding: tokenizer.decode(ids), as: UTF8.self) == text)
    let error = #expect(throws: RequestError.self) { try model.requireBytes() }
    #expect(error?.problem.hasPrefix("--bytes is for models without a tokenizer") == true)

    _ = try SmeltPipeline.convert(model, to: folder.file("m.ingot"), try options("keep"))
    let ingot = try Model.open(folder.file("m.ingot"))
    #expect(try ingot.tokenizer().encode(text) == ids)
    #expect(try ModelDifference.all(model, ingot).filter { $0.kind == .tokenizer }.isEmpty)
  }

  @Test func aDamagedFileIsRefusedAndNoOtherTakesItsPlace() throws {
    _ = try model("spm-bpe")
    try writeFile(folder.file("m/tiktoken.model"), Array("YQ== x\n".utf8), overwrite: true)
    let error = #expect(throws: FormatError.self) { try Model.open(folder.file("m")).tokenizer() }
    #expect(error?.code == .tokenizerValue && error?.file == "tiktoken.model" && error?.offset == 0)
    #expect(error?.help == "fetch tiktoken.model again")
  }
}
