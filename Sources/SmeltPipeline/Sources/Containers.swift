// The containers that models lie in, one line each: how a path is recognized, and how it is opened.

import SmeltContainers
package import SmeltHub
import SmeltStorage

/// A container that models are read from.
package struct Container: Sendable {
  /// What the command line, summaries and reports call it.
  package let name: String
  /// The ending of its files' names; nil where a model of it is a folder.
  package let ending: String?
  /// Whether a file of any name is one, by its first bytes.
  let isKnown: @Sendable (_ path: String) -> Bool
  /// Opens a path.
  let open: @Sendable (_ path: String, _ allowDrop: [String]) throws -> any ModelSource
  /// What a conversion writes there.
  let makeTarget: @Sendable (TargetOptions) throws -> any ResultTarget

  /// Whether a path is taken for one: a folder, or a file by its name or its first bytes.
  package func recognizes(_ path: String) -> Bool {
    guard let ending else { return pathKind(path) == .directory }
    return pathKind(path) == .file && (path.hasSuffix(ending) || isKnown(path))
  }
}

/// The list of containers.
package enum Containers {
  /// All of them, in the order in which a path is tried.
  package static let all: [Container] = [.ingot, .gguf, .safetensors]

  /// The container of a path; nil where none recognizes it.
  package static func recognizing(_ path: String) -> Container? { all.first { $0.recognizes(path) } }
}

extension Container {
  /// A directory of safetensors.
  package static let safetensors = Container(
    name: "safetensors", ending: nil, isKnown: { _ in false },
    open: { try Checkpoint(try OpenedSource(directory: $0, allowDrop: $1), path: $0) },
    makeTarget: {
      SafetensorsResult(
        shardBytes: $0.maxShardSize ?? SafetensorsResult.usualShardBytes,
        layout: try $0.engines.layout(schemeWord: $0.scheme))
    })

  /// An ingot, or the first of several files of one.
  package static let ingot = Container(
    name: "ingot", ending: ".ingot", isKnown: { IngotFile.isIngot($0) },
    open: { path, _ in try IngotSource(path: path) },
    makeTarget: { IngotResult($0.compression ?? .fast, maxPartBytes: $0.maxPartSize) })

  /// A GGUF file, or the first of several parts.
  package static let gguf = Container(
    name: "gguf", ending: ".gguf", isKnown: { GGUFFile.isGGUF($0) },
    open: { try Checkpoint(try OpenedSource(gguf: $0, allowDrop: $1), path: $0) },
    makeTarget: {
      GGUFResult(split: $0.splitMaxSize.map { GGUFPlan.Split(maxBytes: $0) }, recipeName: $0.scheme)
    })
}

extension Model {
  /// Opens a model: a directory, a GGUF file or an ingot (named so, or known by their first bytes).
  /// - Parameters:
  ///   - given: its path, or an address: `hf://org/name`, `https://host/folder/` (Formats/hub.md).
  ///   - allowDrop: globs of tensors that may be left out where no rule explains them; the ledger names them.
  ///   - remote: what is said of models elsewhere.
  /// - Throws: `SRC_MISSING`, `SRC_NOT_MODEL`, `NET_…`, and every refusal of the container and the family.
  package static func open(
    _ given: String, allowDrop: [String] = [], remote: RemoteOptions = RemoteOptions()
  ) throws -> Model {
    guard !given.isEmpty else {
      throw RequestError(
        .usage, "the path of the model is empty", help: "give a directory, a .gguf or an .ingot")
    }
    let path = try RemoteModels.path(given, remote)
    if let container = Containers.recognizing(path) { return Model(try container.open(path, allowDrop)) }
    switch pathKind(path) {
    case .nothing:
      throw FormatError(
        .missingFile, file: path, "there is no such file or directory",
        help: firstPart(of: path).map { "it was written in parts: give '\($0)'" } ?? RemoteModels.help(path))
    case .file, .directory:
      throw FormatError(
        .notModel, file: path, "found a file that is neither an .ingot nor a .gguf",
        help: path.hasSuffix(".safetensors")
          ? "give the directory that holds it, with config.json beside it" : nil)
    case .other: throw FormatError(.notFile, file: path, "found a device or a pipe, expected a model")
    }
  }

  /// The first of several files that a result of this name was cut into, if there is one.
  private static func firstPart(of path: String) -> String? {
    guard let ending = Containers.all.compactMap(\.ending).first(where: { path.hasSuffix($0) }) else {
      return nil
    }
    let stem = fileName(path).dropLast(ending.count)
    let names = (try? namesInFolder(parentFolder(path))) ?? []
    return names.first { matchesGlob("\(stem)-00001-of-?????\(ending)", $0) }.map {
      path.contains("/") ? joinPath(parentFolder(path), $0) : $0
    }
  }
}

/// What is asked of a result's container.
struct TargetOptions: Sendable {
  /// How an ingot's codes are stored: `fast` where nothing is said.
  var compression: CodecMode?
  /// The most bytes of one file of a GGUF model.
  var splitMaxSize: Int?
  /// The most bytes of one file of a directory.
  var maxShardSize: Int?
  /// The most bytes of one file of an ingot.
  var maxPartSize: Int?
  /// The scheme in the user's words.
  var scheme: String?
  /// What engines are to find beside the weights.
  var engines = EngineWords()
}

extension Container {
  /// The container that was asked for by name, or the one that the result's name means.
  /// - Throws: `RequestError` usage.
  init(result: String, asked: String?) throws {
    if let asked {
      guard let found = Containers.all.first(where: { $0.name == asked }) else {
        throw unknownName(asked, kind: "kind of result", among: Containers.all.map(\.name))
      }
      self = found
    } else if let found = Containers.all.first(where: { $0.ending.map(result.hasSuffix) ?? false }) {
      self = found
    } else {
      try Container.refuseSuffix(result)
      self = .safetensors
    }
  }

  /// Refuses the name of a folder that looks like a mistyped file: `x.ingto`, `x.safetensors`.
  private static func refuseSuffix(_ result: String) throws {
    let name = fileName(result)
    guard !result.hasSuffix("/"), pathKind(result) != .directory, let dot = name.lastIndex(of: "."),
      dot != name.startIndex
    else { return }
    let suffix = String(name[name.index(after: dot)...])
    let files = ["safetensors", "bin", "pt", "pth", "json", "zip", "tar", "gz", "onnx", "npz"]
    let meant = nearestName(
      suffix, among: Containers.all.compactMap { $0.ending.map { String($0.dropFirst()) } })
    guard meant != nil || files.contains(suffix.lowercased()) else { return }
    throw RequestError(
      .usage,
      "the name '\(result)' has no suffix of a result: .ingot, .gguf, or none for a folder of safetensors",
      help: (meant.map { "did you mean .\($0)? " } ?? "") + "a folder of this name: give '\(result)/'")
  }

  /// What a conversion writes into this container.
  /// - Throws: `RequestError` usage for options of another container.
  func target(_ options: TargetOptions) throws -> any ResultTarget {
    guard options.splitMaxSize == nil || name == Container.gguf.name else {
      throw RequestError(.usage, "--split-max-size is for .gguf results")
    }
    guard options.maxShardSize == nil || name == Container.safetensors.name else {
      throw RequestError(.usage, "--max-shard-size is for directories of safetensors")
    }
    guard options.maxPartSize == nil || name == Container.ingot.name else {
      throw RequestError(.usage, "--max-part-size is for .ingot results")
    }
    guard options.compression == nil || name == Container.ingot.name else {
      throw RequestError(.usage, "--compression is for .ingot results")
    }
    guard options.engines.isEmpty || name == Container.safetensors.name else {
      throw RequestError(
        .usage,
        "--layout, --activations and --kv-cache are for directories of safetensors, which engines read")
    }
    return try makeTarget(options)
  }
}
