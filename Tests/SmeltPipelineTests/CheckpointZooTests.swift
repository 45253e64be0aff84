// Every fault of the zoo is refused with its code, file and subject, by every verb that would meet it, the second time
// as well, and nothing is left behind. `SMELT_UPDATE=1 swift test --filter CheckpointZoo` writes the kept ones.

import SmeltContainers
import SmeltModels
import SmeltPipeline
import SmeltQuantization
import SmeltStorage
import SmeltTensors
import SmeltTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#elseif canImport(Darwin)
  import Darwin
#endif

private let oneThread = RunOptions(parallel: .serial)

/// All token ids, so that every expert of a layer that routes by token id is met.
private let everyToken = Windows([Array(0..<24)], context: 24)

private func keep(_ model: Model, to path: String) throws {
  _ = try convert(model, to: path, ConvertOptions(recipe: Recipe(Keep()), run: oneThread))
}

@Suite struct CheckpointZooTests {
  @Test(arguments: CheckpointFault.all)
  func isRefused(_ fault: CheckpointFault) throws {
    let folder = TemporaryFolder()
    fault.write(to: folder.path)
    try expectRefusal(of: folder.path, fault)
  }

  private func expectRefusal(of path: String, _ fault: CheckpointFault) throws {
    func expect(_ verb: String, _ body: () throws -> Void) throws {
      let error = try #require(throws: FormatError.self, "\(verb)") { try body() }
      #expect(error.code == fault.code, "\(verb): \(error)")
      let file = try #require(error.file, "\(verb): \(error)")
      #expect(fault.file.isEmpty ? file == path : fileName(file) == fault.file, "\(verb): \(error)")
      #expect(error.subject == fault.subject, "\(verb): \(error)")
      #expect(!error.problem.isEmpty && error.problem.first?.isUppercase == false, "\(verb): \(error)")
      #expect(error.description.split(separator: "\n").count == 3 && error.description.utf8.count < 1500)
    }
    guard fault.stage == .scan else { return try expect("open") { _ = try Model.open(path) } }
    let model = try Model.open(path)
    for verb in ["check", "check again"] { try expect(verb) { _ = try checkModel(model, oneThread) } }
    try expect("evaluate") { _ = try evaluate(try Model.open(path), everyToken, oneThread) }
    let results = TemporaryFolder()
    try expect("convert") { try keep(try Model.open(path), to: results.file("r.ingot")) }
    putFile(results.file("text"), [])
    try expect("calibrate") {
      _ = try calibrate(
        try Model.open(path), everyToken, textPath: results.file("text"), to: results.file("s"),
        overwrite: false, oneThread)
    }
    let sound = TemporaryFolder()
    TinyV4(.plain, size: .smallest).write(to: sound.path)
    try expect("verify") {
      _ = try verify(
        source: try Model.open(path), result: try Model.open(sound.path), everyToken,
        thresholds: Thresholds(), oneThread)
    }
    #expect(try namesInFolder(results.path) == ["text"])
  }

  /// Without its fault each kind of checkpoint is sound: what the zoo refuses, it refuses for the fault.
  @Test(arguments: TinyV4.Layout.allCases, [1, 3])
  func soundOnesAreNotRefused(_ layout: TinyV4.Layout, shards: Int) throws {
    for size in [TinyV4.Size.smallest, TinyV4.Size()] {
      let folder = TemporaryFolder()
      TinyV4(layout, size: size).write(to: folder.path, shards: shards)
      let model = try Model.open(folder.path)
      let summary = try checkModel(model, oneThread)
      #expect(summary.weights == model.family.weights.count)
      #expect(summary.warnings == ["there is no tokenizer: text cannot be evaluated"])
      let evaluation = try evaluate(model, everyToken, oneThread)
      #expect(evaluation.perplexity.isFinite && evaluation.perplexity > 1)
      let results = TemporaryFolder()
      try keep(model, to: results.file("r.ingot"))
      let ingot = try Model.open(results.file("r.ingot"))
      #expect(try evaluate(ingot, everyToken, oneThread).perplexity == evaluation.perplexity)
    }
  }

  /// A drafting block of which only a tensor is there is carried under that tensor's name.
  @Test func aRestOfADraftBlockIsCarried() throws {
    var tiny = TinyV4(.published, size: .smallest)
    tiny.tensors.append(TinyTensor("mtp.0.e_proj.weight", .f8E4M3, [4], [0x7E, 1, 2, 3]))
    let folder = TemporaryFolder()
    tiny.write(to: folder.path)
    let model = try Model.open(folder.path)
    #expect(model.family.weights.last?.name.base == "mtp.0.e_proj.weight")
    #expect(model.family.weights.last?.isDraft == true)
    var options = ConvertOptions(recipe: Recipe(Keep()))
    #expect(try Plan(model, options).dropped == 0)
    options.drafts = .drop
    #expect(try Plan(model, options).ledger.last?.rule == "mtp")
    _ = try checkModel(model, oneThread)
  }

  @Test(
    arguments: [
      ("quantization_config", ["quant_method": "aqlm"], "compressed-tensors"),
      ("scoring_func", "sigmoid", "sqrtsoftplus"),
    ] as [(String, JSON, String)])
  func unsupportedSaysWhatIsSupported(key: String, value: JSON, known: String) throws {
    var tiny = TinyV4(size: .smallest)
    tiny.set(key, value)
    let folder = TemporaryFolder()
    tiny.write(to: folder.path)
    let error = try #require(throws: RequestError.self) { try Model.open(folder.path).requireForwardPass() }
    #expect(error.kind == .unsupported && error.exitStatus == 3)
    #expect(error.problem.contains("config.json") && error.description.contains(known), "\(error)")
  }

  @Test func configMayBeNoFolder() throws {
    let folder = TemporaryFolder()
    TinyV4(size: .smallest).write(to: folder.path)
    removeFile(folder.file("config.json"))
    #expect(mkdir(folder.file("config.json"), 0o700) == 0)
    let error = try #require(throws: FormatError.self) { try Model.open(folder.path) }
    #expect(error.code == .notFile && error.file == folder.file("config.json"))
  }

  /// Small files are carried into results: a link to somebody's key may not end up in what is published.
  @Test(arguments: ["config.json", "tokenizer.json"])
  func smallFileMayBeNoLinkThatLeaves(name: String) throws {
    let (folder, outside) = (TemporaryFolder(), TemporaryFolder())
    TinyV4(size: .smallest).write(to: folder.path)
    let secret = name == "config.json" ? TinyV4(size: .smallest).configText : "secret"
    putFile(outside.file("secret"), Array(secret.utf8))
    removeFile(folder.file(name))
    #expect(symlink(outside.file("secret"), folder.file(name)) == 0)
    let error = try #require(throws: FormatError.self) { try Model.open(folder.path) }
    #expect(error.code == .idxLink && error.file == folder.file(name), "\(error)")
  }

  @Test(arguments: ["README.md", "LICENSE", "chat_template.jinja"])
  func otherFilesThatLinkOutAreLeft(name: String) throws {
    let (folder, outside) = (TemporaryFolder(), TemporaryFolder())
    TinyV4(size: .smallest).write(to: folder.path)
    putFile(outside.file("secret"), Array("secret".utf8))
    #expect(symlink(outside.file("secret"), folder.file(name)) == 0)
    let model = try Model.open(folder.path)
    #expect(model.leftFiles == [LeftFile(name, "a link that leads out of the folder")])
    #expect(try model.smallFile(name) == nil)
  }

  @Test func smallFileMayBeALinkWithinTheFolder() throws {
    let folder = TemporaryFolder()
    TinyV4(size: .smallest).write(to: folder.path)
    putFile(folder.file("notes"), Array("notes".utf8))
    #expect(symlink("notes", folder.file("README.md")) == 0)
    #expect(try Model.open(folder.path).smallFile("README.md")?.array == Array("notes".utf8))
  }

  /// Weights near the end of float32 overflow in the pass; every verb ends, and a calibration says so.
  @Test(arguments: ["fp8-channel", "int8-channel", "mxfp4", "f16"])
  func overflowIsNoTrap(scheme: String) throws {
    var tiny = TinyV4()
    for index in tiny.tensors.indices where tiny.tensors[index].dtype == .bf16 {
      for place in stride(from: 1, to: tiny.tensors[index].bytes.count, by: 2) {
        tiny.tensors[index].bytes[place] = tiny.tensors[index].bytes[place] & 0x80 | 0x7F
        tiny.tensors[index].bytes[place - 1] &= 0x7F
      }
    }
    let (folder, results) = (TemporaryFolder(), TemporaryFolder())
    tiny.write(to: folder.path)
    let model = try Model.open(folder.path)
    _ = try checkModel(model, oneThread)
    for verb in 0..<4 {
      do {
        switch verb {
        case 0: _ = try evaluate(model, everyToken, oneThread).json.text()
        case 1:
          _ = try verify(source: model, result: model, everyToken, thresholds: Thresholds(), oneThread)
            .json.text()
        case 2:
          let recipe = Recipe(try Schemes.named(scheme))
          _ = try convert(model, to: results.file("r.ingot"), ConvertOptions(recipe: recipe, run: oneThread))
          _ = try checkModel(Model.open(results.file("r.ingot")), oneThread)
        default:
          putFile(results.file("text"), [])
          let error = try #require(throws: FormatError.self) {
            _ = try calibrate(
              model, everyToken, textPath: results.file("text"), to: results.file("s"), overwrite: false,
              oneThread)
          }
          #expect(error.code == .codeNaN && error.subject != nil)
        }
      } catch let error as FormatError {
        #expect(!error.problem.isEmpty)
      } catch let error as RequestError {
        #expect(!error.problem.isEmpty)
      }
    }
  }

  // MARK: the kept ones

  private static let kept = CheckpointFault.all.filter(\.isKept)
  private static let home = fixture("malformed/checkpoint")

  @Test(arguments: kept)
  func keptFoldersAreThoseTheTestMakes(_ fault: CheckpointFault) throws {
    let (folder, note) = ("\(Self.home)/\(fault.name)", "\(Self.home)/\(fault.name).json")
    if getenv("SMELT_UPDATE") != nil {
      mkdir(Self.home, 0o755)
      mkdir(folder, 0o755)
      fault.write(to: folder)
      putFile(note, Array((fault.json.text(indented: true) + "\n").utf8))
    }
    let made = TemporaryFolder()
    fault.write(to: made.path)
    let names = try namesInFolder(made.path)
    #expect(try namesInFolder(folder) == names)
    var total = 0
    for name in names {
      let bytes = try readSmallFile(folder + "/" + name, limit: 1 << 20, code: .configJSON).array
      #expect(try bytes == readSmallFile(made.file(name), limit: 1 << 20, code: .configJSON).array, "\(name)")
      total += bytes.count
    }
    #expect(total < 60_000)
    let noted = try JSON.scan(readSmallFile(note, limit: 1 << 16, code: .configJSON))
    #expect(noted.text() == fault.json.text())
    try expectRefusal(of: folder, fault)
  }

  @Test func everyKeptFolderHasItsFault() throws {
    let folders = try namesInFolder(Self.home).filter { !$0.hasSuffix(".json") }
    #expect(folders == Self.kept.map(\.name).sorted())
  }

  @Test func everyCodeOfCheckpointsHasItsFault() {
    let zoo = Set(CheckpointFault.all.map(\.code.name))
    for code in ErrorCode.all where code != .block {  // folders of safetensors have no blocks
      guard ["Q_", "CFG_", "ARCH_"].contains(where: { code.name.hasPrefix($0) }) else { continue }
      #expect(zoo.contains(code.name), "\(code)")
    }
    #expect(CheckpointFault.all.count == Set(CheckpointFault.all.map(\.name)).count)
  }
}
