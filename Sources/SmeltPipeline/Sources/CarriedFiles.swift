// The files of a checkpoint's folder that belong to the model besides its weights: everything but weights, their index, other
// formats' weights, and what tools keep for themselves. Formats/layouts.md, section 6.

import SmeltContainers
import SmeltStorage

/// What a folder holds beside weights.
struct CarriedFiles {
  /// Names below the folder and contents, in order of their bytes. Large files are mapped.
  private(set) var files: [(name: String, bytes: Bytes)] = []
  /// What stays behind.
  private(set) var left: [LeftFile] = []
  /// The mappings behind `files`.
  private(set) var mappings: [MappedFile] = []

  private let folder: ShardFolder
  private var total = 0

  /// The most bytes of one file, of all files, and how many files and folders inside one another are looked at.
  static let limits = (file: 64 << 20, total: 1 << 30, count: 10_000, depth: 8)
  /// Files up to this size are read at once; others are mapped.
  private static let readLimit = 1 << 16

  /// Files that the program itself reads: one that cannot be read is refused, not left.
  private static let needed: Set<String> = [
    "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json",
    QuantizationConfig.sidecarName,
  ]

  /// Looks through a folder.
  /// - Throws: `IDX_LINK`, `IDX_MISSING`, `SRC_NOT_FILE`, `CFG_VALUE` and `TOK_VALUE` for a configuration or a tokenizer that
  ///   leads out of the folder, to nothing, is not a file, or is too large.
  init(_ path: String) throws {
    folder = try ShardFolder(path)
    try look(into: "", names: folder.names, depth: 1)
    // Names in order of their bytes, whatever folder they lie in.
    files.sort { Array($0.name.utf8).lexicographicallyPrecedes(Array($1.name.utf8)) }
  }

  private mutating func look(into below: String, names: [String], depth: Int) throws {
    for name in names {
      let relative = below.isEmpty ? name : "\(below)/\(name)"
      let place = folder.file(relative)
      if let reason = CarriedFiles.tools(name) {
        left.append(LeftFile(pathKind(place) == .directory ? relative + "/" : relative, reason))
      } else if pathKind(place) == .directory {
        try lookInto(folder: relative, place, depth)
      } else {
        try add(relative, name, place)
      }
    }
  }

  private mutating func lookInto(folder relative: String, _ place: String, _ depth: Int) throws {
    func leave(_ reason: String) { left.append(LeftFile(relative + "/", reason)) }
    if CarriedFiles.weightFolders.contains(where: { relative.lowercased().hasSuffix($0) }) {
      leave("weights of another format")
    } else if isSymbolicLink(place) {
      leave("a link to a folder")
    } else if depth >= CarriedFiles.limits.depth {
      leave("deeper than \(CarriedFiles.limits.depth) folders")
    } else if !mayRead(place) {
      leave("may not be read")
    } else {
      let names = try namesInFolder(place)
      if names.isEmpty { leave("an empty folder") }
      try look(into: relative, names: names, depth: depth + 1)
    }
  }

  private mutating func add(_ relative: String, _ name: String, _ place: String) throws {
    let isNeeded = CarriedFiles.needed.contains(relative)
    func leave(_ reason: String, _ bytes: Int? = nil) {
      left.append(LeftFile(relative, reason, bytes: bytes))
    }
    if let reason = CarriedFiles.weights(name) {
      return leave(reason, pathKind(place) == .file ? fileByteCount(place) : nil)
    }
    if let problem = CarriedName.problem(relative) { return leave(problem) }
    guard files.count < CarriedFiles.limits.count else {
      return leave("beyond the first \(CarriedFiles.limits.count) files")
    }
    let target: String
    do {
      target = try folder.resolve(relative)
    } catch {
      if isNeeded { throw error }
      return leave(error.code == .idxLink ? "a link that leads out of the folder" : "a link to nothing")
    }
    if !isNeeded {
      guard pathKind(target) != .other else { return leave("a device, a pipe or a socket") }
      guard mayRead(target) else { return leave("may not be read", fileByteCount(target)) }
    }
    // A file that may be read and cannot be is lost by a failure of the disk or of the system, not by a rule.
    let file = try MappedFile(path: target)
    let limit = relative == "config.json" ? 16 << 20 : CarriedFiles.limits.file
    guard file.count <= limit else {
      if isNeeded {
        throw FormatError(
          relative.hasPrefix("tokenizer") ? .tokenizerValue : .configValue, file: relative,
          "found \(file.count) bytes, expected at most \(limit)")
      }
      return leave("larger than \(byteText(limit))", file.count)
    }
    guard total + file.count <= CarriedFiles.limits.total else {
      return leave("beyond \(byteText(CarriedFiles.limits.total)) of files", file.count)
    }
    total += file.count
    if file.count <= CarriedFiles.readLimit || isNeeded {
      files.append((relative, Bytes(try file.bytes.fetched().array)))
    } else {
      files.append((relative, file.bytes))
      mappings.append(file)
    }
  }

  /// What stays behind once it is known which files hold the model's weights; those are not listed.
  func left(besides source: SafetensorsDirectory) -> [LeftFile] {
    let own = Set(source.files.map { fileName($0.path) } + ["model.safetensors.index.json"])
    return left.filter { !own.contains($0.name) }
  }

  // MARK: names

  /// Why a name is some tool's own, or nil.
  static func tools(_ name: String) -> String? {
    switch name {
    case ".git", ".hg", ".svn", ".bzr", ".jj": return "version control"
    case ".cache", ".huggingface", ".ipynb_checkpoints", "__pycache__": return "a tool's cache"
    case FolderManifest.fileName: return "Smelt's own list of a result's files"
    default: break
    }
    let own = ["*.partial", "*.partial-*", "*.replaced-*", "*.journal", "*.smelt-lock", ".smelt-*"]
    if own.contains(where: { matchesGlob($0, name) }) { return "a file of a Smelt run" }
    return nil
  }

  /// Why a name is that of weights or their index, or nil.
  static func weights(_ name: String) -> String? {
    let name = name.lowercased()
    if name.hasSuffix(".safetensors") { return "weights that are not the model's" }
    if name.hasSuffix(".index.json") {
      let stem = String(name.dropLast(".index.json".count))
      let isIndex = ([".safetensors"] + weightEndings).contains { ending in
        stem.hasSuffix(ending) || stem.split(separator: ".").contains { ".\($0)" == ending }
      }
      if isIndex { return "an index of weights" }
    }
    let isOther =
      weightEndings.contains { name.hasSuffix($0) } || matchesGlob("*.data-?????-of-?????", name)
      || matchesGlob("*.gguf.*", name) || matchesGlob("*.gguf-split*", name)
    return isOther ? "weights of another format" : nil
  }

  /// Endings of files that hold weights, or may hold any object of Python's.
  static let weightEndings = [
    ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".npz", ".npy", ".h5", ".hdf5", ".keras",
    ".msgpack",
    ".onnx", ".onnx_data", ".onnx.data", ".ort", ".ot", ".gguf", ".ggml", ".ggjt", ".llamafile", ".ingot",
    ".tflite",
    ".pb", ".mlmodel", ".nemo", ".distcp", ".engine", ".plan", ".pdparams", ".pdiparams", ".pdmodel",
    ".params",
    ".caffemodel", ".exl2", ".mnn", ".rknn", ".dduf", ".torchscript", ".ptl", ".pte", ".litertlm", ".task",
  ]

  /// Folders that are one model of another format.
  private static let weightFolders = [".mlpackage", ".mlmodelc", ".mlmodel"]
}
