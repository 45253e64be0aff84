// The files beside a model's weights: which arrive in a result, through every container, and what is said of the others.

import SmeltContainers
import SmeltModels
@testable import SmeltPipeline
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

@Suite struct CarriedFilesTests {
  private let folder = TemporaryFolder()

  /// Every file below a folder by its name.
  private func files(_ path: String, below: String = "") throws -> [String: [UInt8]] {
    var found: [String: [UInt8]] = [:]
    for name in try namesInFolder(joinPath(path, below)) {
      let relative = below.isEmpty ? name : "\(below)/\(name)"
      if pathKind(joinPath(path, relative)) == .directory {
        found.merge(try files(path, below: relative)) { first, _ in first }
      } else {
        found[relative] = try contents(joinPath(path, relative))
      }
    }
    return found
  }

  private func convert(_ model: Model, _ name: String, _ target: any ResultTarget, scheme: String = "keep")
    throws
    -> ConvertSummary
  {
    var options = try options(scheme)
    options.target = target
    return try SmeltPipeline.convert(model, to: folder.file(name), options)
  }

  private func write(_ path: String, _ bytes: [UInt8]) throws {
    for folder in CarriedName.folders(path) { mkdir(self.folder.file("m/\(folder)"), 0o755) }
    try writeFile(folder.file("m/\(path)"), bytes, overwrite: true)
  }

  /// A checkpoint in `m` to which tests add files.
  private func checkpoint() throws {
    mkdir(folder.file("m"), 0o755)
    try makeCheckpoint(in: folder.file("m"), experts: 2, expertWidth: 32)
  }

  /// A configuration that is listed and cannot be reached is no checkpoint without one: its result would have none.
  @Test func aConfigurationBehindADeadLinkIsRefused() throws {
    try checkpoint()
    rename(folder.file("m/config.json"), folder.file("config.json"))
    symlink("blobs/gone", folder.file("m/config.json"))
    let error = try #require(throws: FormatError.self) { try Model.open(folder.file("m")) }
    #expect(error.subject == "config.json" || error.file?.hasSuffix("config.json") == true)
  }

  /// Everything that published checkpoints carry, into a directory, and through an ingot and back.
  @Test func publishedFilesArrive() throws {
    let source = fixture("reports/files")
    let model = try Model.open(source)
    var expected = try files(source)
    #expect(expected.count > 40)
    expected["model.safetensors"] = nil
    func expect(_ name: String) throws {
      var found = try files(folder.file(name))
      #expect(found.removeValue(forKey: "model.safetensors") != nil)
      for own in ["smelt-manifest.json"] { found[own] = nil }
      #expect(found.keys.sorted() == expected.keys.sorted())
      for (name, bytes) in expected { #expect(found[name] == bytes, "\(name)") }
    }
    #expect(try convert(model, "a", SafetensorsResult()).leftFiles == [])
    try expect("a")
    #expect(try convert(model, "a.ingot", IngotResult(.fast)).leftFiles == [])
    let ingot = try Model.open(folder.file("a.ingot"))
    #expect(Set(try ingot.source.smallFiles().map(\.name)).subtracting(["ledger.json"]) == Set(expected.keys))
    #expect(try convert(ingot, "b", SafetensorsResult()).leftFiles == [])
    try expect("b")
    // GGUF has keys for the configuration and the tokenizer; the rest is named.
    let left = try convert(model, "a.gguf", GGUFResult()).leftFiles
    #expect(Set(left.map(\.name)).isDisjoint(with: ["config.json", "tokenizer.json", "chat_template.jinja"]))
    #expect(
      left.count == expected.count - 6 && left.allSatisfy { $0.reason.contains("GGUF") && $0.bytes != nil })
  }

  /// The plan says what the conversion will leave, with the reason.
  @Test func whatIsLeftIsNamed() throws {
    try checkpoint()
    let weights = [
      "pytorch_model.bin", "old.pt", "consolidated.00.pth", "flax_model.msgpack", "tf_model.h5", "model.onnx",
      "rust_model.ot",
      "model.Q4_K_M.gguf", "weights.npz", "x.ckpt", "training_args.bin", "onnx/model.onnx_data",
      "adapter_model.safetensors",
      "original/consolidated.safetensors", "VOCAB.BIN",
    ]
    for name in weights { try write(name, [1, 2, 3]) }
    for name in ["pytorch_model.bin.index.json", "tf_model.h5.index.json"] {
      try write(name, Array("{}".utf8))
    }
    for name in [".git/config", ".cache/huggingface/x", "__pycache__/a.pyc", "m.mlpackage/Data/weights.txt"] {
      try write(name, [1])
    }
    for name in ["o.ingot.partial", "o.ingot.journal", "o.partial-123", "smelt-manifest.json"] {
      try write(name, [1])
    }
    for name in ["a\nb.txt", "a\\b.txt", "a:b.txt"] { try write(name, [1]) }
    try write("deep/1/2/3/4/5/6/7/8/x.txt", [1])
    mkdir(folder.file("m/empty"), 0o755)
    mkfifo(folder.file("m/pipe.txt"), 0o644)
    symlink("/etc/hostname", folder.file("m/out.txt"))
    symlink("nowhere", folder.file("m/nothing.txt"))
    symlink("onnx", folder.file("m/again"))
    try write("README.md", Array("# it".utf8))
    symlink("README.md", folder.file("m/in.txt"))
    for name in ["notes.txt", "code/a.py", "onnx/config.json", "index.json", "data.bin.txt", "x.json"] {
      try write(name, Array(name.utf8))
    }
    let model = try Model.open(folder.file("m"))
    let reasons = Dictionary(uniqueKeysWithValues: model.leftFiles.map { ($0.name, $0.reason) })
    for name in weights where !name.hasSuffix(".safetensors") {
      #expect(reasons[name] == "weights of another format", "\(name)")
    }
    for (name, reason) in [
      ("adapter_model.safetensors", "weights that are not the model's"),
      ("original/consolidated.safetensors", "weights that are not the model's"),
      ("pytorch_model.bin.index.json", "an index of weights"),
      ("tf_model.h5.index.json", "an index of weights"),
      (".git/", "version control"), (".cache/", "a tool's cache"), ("__pycache__/", "a tool's cache"),
      ("m.mlpackage/", "weights of another format"), ("o.ingot.partial", "a file of a Smelt run"),
      ("o.ingot.journal", "a file of a Smelt run"), ("o.partial-123", "a file of a Smelt run"),
      ("smelt-manifest.json", "Smelt's own list of a result's files"), ("empty/", "an empty folder"),
      ("pipe.txt", "a device, a pipe or a socket"), ("out.txt", "a link that leads out of the folder"),
      ("nothing.txt", "a link to nothing"), ("again/", "a link to a folder"),
      ("a\\b.txt", "the name holds a backslash"),
      ("a:b.txt", "the name holds a colon"), ("deep/1/2/3/4/5/6/7/", "deeper than 8 folders"),
    ] { #expect(reasons[name] == reason, "\(name)") }
    #expect(reasons["a\nb.txt"]?.contains("control character") == true)
    #expect(reasons.count == weights.count + 2 + 20 - 4 + 1)
    let carried = try model.source.smallFiles().map(\.name)
    #expect(
      carried == [
        "README.md", "code/a.py", "config.json", "data.bin.txt", "in.txt", "index.json", "notes.txt",
        "onnx/config.json", "x.json",
      ])
    let plan = try Plan(model, ConvertOptions(recipe: Recipe(Keep()), target: SafetensorsResult()))
    #expect(plan.leftFiles == model.leftFiles)
    let made = try convert(model, "r", SafetensorsResult())
    #expect(made.leftFiles == plan.leftFiles && made.text.contains("a link that leads out of the folder"))
    #expect(Set(try files(folder.file("r")).keys).isSuperset(of: carried))
    #expect(!made.text.contains("a\nb"))
    let json = try JSON.scan(made.json.text())["left_files"]?.array ?? []
    #expect(json.count == plan.leftFiles.count)
    #expect(json.first { $0["name"]?.string == "old.pt" }?["bytes"]?.integer == 3)
  }

  /// Large files are mapped, larger ones left; what is read while it changes is no result.
  @Test func sizesAreBounded() throws {
    try checkpoint()
    try write("big.txt", [UInt8](repeating: 7, count: 200_000))
    let huge = try #require(fopen(folder.file("m/huge.model"), "w"))
    ftruncate(fileno(huge), 64 << 20 + 1)
    fclose(huge)
    let model = try Model.open(folder.file("m"))
    #expect(try model.smallFile("big.txt")?.isMapped == true)
    #expect(model.leftFiles.map(\.name) == ["huge.model"])
    #expect(model.leftFiles[0].bytes == 64 << 20 + 1 && model.leftFiles[0].reason == "larger than 67.1 MB")
    _ = try convert(model, "r", SafetensorsResult())
    #expect(try contents(folder.file("r/big.txt")).count == 200_000)
    try write("big.txt", [UInt8](repeating: 7, count: 199_999))
    let error = try #require(throws: FormatError.self) { try convert(model, "s", SafetensorsResult()) }
    #expect(error.code == .changed && error.file?.hasSuffix("big.txt") == true)
    #expect(pathKind(folder.file("s")) == .nothing)
  }

  /// What the program itself reads is refused where it cannot be read.
  @Test(arguments: ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "config.json"])
  func neededFilesAreRefused(name: String) throws {
    try checkpoint()
    let path = folder.file("m/\(name)")
    removeFile(path)
    symlink("nowhere", path)
    let dangling = try #require(throws: FormatError.self) { try Model.open(folder.file("m")) }
    #expect(dangling.code == .idxMissing, "\(dangling)")
    removeFile(path)
    mkfifo(path, 0o644)
    let pipe = try #require(throws: FormatError.self) { try Model.open(folder.file("m")) }
    #expect(pipe.code == .notFile, "\(pipe)")
  }

  /// Descriptions of the source's codes, and names that another file system takes for the result's own.
  @Test func namesOfTheResultsOwnAreLeft() throws {
    try checkpoint()
    for name in [
      "Config.json", "readme.md", "MODEL.SAFETENSORS.INDEX.JSON", "quantize_config.json", "recipe.yaml",
    ] {
      try write(name, Array("{}".utf8))
    }
    let model = try Model.open(folder.file("m"))
    let kept = try convert(model, "k", SafetensorsResult())
    #expect(Set(kept.leftFiles.map(\.name)) == ["Config.json", "MODEL.SAFETENSORS.INDEX.JSON"])
    let changed = try convert(model, "c", SafetensorsResult(), scheme: "bf16")
    #expect(changed.leftFiles.contains { $0.name == "MODEL.SAFETENSORS.INDEX.JSON" })
    let all = try convert(model, "i", SafetensorsResult(schemeWord: "W8A16"), scheme: "int8-channel")
      .leftFiles
    #expect(
      Set(all.map(\.name)) == [
        "Config.json", "MODEL.SAFETENSORS.INDEX.JSON", "quantize_config.json", "readme.md",
      ])
    #expect(try files(folder.file("i"))["recipe.yaml"] != nil)
  }

  /// An ingot's own notes are not the source's files, and a hostile ingot's names do not become files of a result.
  @Test func anIngotsNamesLeadNowhere() throws {
    try checkpoint()
    for name in ["ledger.json", "report.json"] { try write(name, Array("{}".utf8)) }
    let model = try Model.open(folder.file("m"))
    #expect(
      Set(try convert(model, "a.ingot", IngotResult(.raw)).leftFiles.map(\.name)) == [
        "ledger.json", "report.json",
      ])
    #expect(try convert(model, "a", SafetensorsResult()).leftFiles == [])
    // Names that an ingot may hold, and a directory's own.
    var writer = try IngotWriter(path: folder.file("h.ingot"), overwrite: false)
    for spec in model.family.weights {
      try writer.write(try model.weights.weight(spec.name).renamed(spec.name.description), mode: .raw)
    }
    let hostile = [
      "model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "CONFIG.JSON",
      "smelt-manifest.json", "model.safetensors.bak/x.safetensors", ".git/hooks/post-checkout", "x.pkl",
    ]
    for name in hostile { try writer.addFile(name: name, bytes: Bytes([1]), mode: .raw) }
    try writer.addFile(name: "config.json", bytes: model.smallFile("config.json")!, mode: .raw)
    try writer.addFile(name: "sub/fine.txt", bytes: Bytes([1]), mode: .raw)
    _ = try writer.finish(metadata: ["format": "smelt.ingot/2"])
    let made = try convert(try Model.open(folder.file("h.ingot")), "h", SafetensorsResult())
    #expect(Set(made.leftFiles.map(\.name)) == Set(hostile))
    let found = Set(try files(folder.file("h")).keys).subtracting(["smelt-manifest.json"])
    #expect(found == ["config.json", "model.safetensors", "sub/fine.txt"])
  }
}

extension Weight {
  fileprivate func renamed(_ name: String) throws -> Weight {
    try Weight(name: name, shape: shape, encoding: encoding, parts: parts)
  }
}
