// A model, wherever it lies. The verbs work on this, and ask its source for everything that depends on the place.

package import SmeltModels
package import SmeltStorage
import SmeltQuantization
import SmeltTensors
package import SmeltTokenizers

/// An opened model: its family, its weights, and the files that came with it.
package struct Model: Sendable {
  /// Where it lies.
  package let source: any ModelSource
  /// Weights that a method chose, in place of the source's own; nil unless a conversion is under way.
  var prepared: PreparedStore?

  /// A model of a source.
  package init(_ source: any ModelSource) { self.source = source }

  /// The path it was opened by.
  package var path: String { source.path }
  /// The architecture.
  package var family: any ModelFamily { source.family }
  /// `safetensors`, `gguf` or `ingot`.
  package var containerName: String { source.containerName }
  /// The files that hold the weights.
  package var files: [(path: String, byteCount: Int)] { source.files }
  /// Things worth saying about the model that are no reason to refuse it, as people read them.
  package var warnings: [String] { source.warnings.map(\.warning) }
  /// Files beside the weights that no result takes, whatever its container.
  package var leftFiles: [LeftFile] { source.leftFiles }
  /// Throws `SRC_CHANGED` when a file changed since it was opened.
  package func checkUnchanged() throws { try source.checkUnchanged() }

  /// The dialect whose names the weights have, or had before they came into this container; the hub's where nothing is
  /// known.
  var dialect: String {
    let name = source.publishedDialect ?? source.dialect
    return family.writtenDialects.first { $0 == name } ?? family.dialects[0]
  }

  // MARK: weights

  /// What the forward pass multiplies by.
  package var weights: any Weights { overlaid(source) }

  /// A source's weights, or a cache's of them, those that a method chose in place of their own.
  func overlaid(_ base: some Weights) -> any Weights {
    guard let prepared else { return base }
    return OverlaidWeights(base: base, store: prepared)
  }

  /// How the weights are stored, in the order of the family's table; from headers alone.
  package func storedWeights() throws -> [StoredWeight] {
    let stored = try source.storedWeights()
    guard let prepared else { return stored }
    return stored.map { weight in
      guard let found = prepared.find(weight.spec.name) else { return weight }
      return StoredWeight(weight, prepared: found)
    }
  }

  /// The parts of a weight as they are stored.
  func storedParts(of name: WeightName) -> [ResultPart] {
    guard let weight = prepared?.find(name)?.weight else { return source.storedParts(of: name) }
    return weight.parts.map {
      ResultPart(name: $0.name, dtype: $0.dtype, shape: $0.shape, byteCount: $0.bytes.count)
    }
  }

  /// The file of errors that a method left in the weights; nil where there was none.
  var preparedErrors: [UInt8]? { prepared.map { $0.errors.bytes } }

  /// What the source declares of the rounding of activations and caches.
  /// - Throws: `Q_SCALE_SHAPE`, `Q_SCALE_VALUE`.
  package func declaredScales() throws -> DeclaredScales { try source.declaredScales() }

  /// Where no cache of a run keeps weights: lowers what a source keeps inflated for itself.
  func limitCache(_ bytes: Int) { source.inflatedLimit = min(source.inflatedLimit, bytes) }

  /// Tensors of the source that take part in nothing, by the rule that leaves them out.
  package var leftOut: [LeftOut] { leftOut(besides: []) }

  /// The same without some of them.
  func leftOut(besides taken: Set<String>) -> [LeftOut] {
    var found: [LeftOut] = []
    for tensor in source.droppedTensors where !taken.contains(tensor.name) {
      found.add(tensor.rule, tensors: 1, bytes: tensor.byteCount)
    }
    return found
  }

  // MARK: files beside the weights

  /// A small file that came with the model, such as `tokenizer.json`.
  package func smallFile(_ name: String) throws -> Bytes? { try source.smallFile(name) }

  /// The configuration of the text model: the section of a wrapper's, or config.json as it is.
  func textConfig() throws -> Bytes? {
    guard let bytes = try smallFile("config.json") else { return nil }
    guard (family as? CarryingFamily)?.wrapper != nil,
      let text = TextConfig(try parseConfig(bytes, file: "config.json"), hasHead: family.core.hasHead)
    else { return bytes }
    return Bytes(Array((text.json.text(indented: true) + "\n").utf8))
  }

  /// The model's tokenizer.
  /// - Throws: `SRC_MISSING` when the model has no tokenizer; what reading the tokenizer's file throws.
  package func tokenizer() throws -> Tokenizer {
    guard let files = try tokenizerFiles() else {
      throw FormatError(
        .missingFile, file: joinPath(path, "tokenizer.json"),
        "the model has no tokenizer.json, no tiktoken file and no SentencePiece model",
        help:
          "put the model's tokenizer.json beside its weights; --bytes insists, and takes a text's bytes as token ids"
      )
    }
    return try files.tokenizer()
  }

  /// The files of the model's tokenizer: tokenizer.json before a tiktoken file before a SentencePiece model; nil without one.
  func tokenizerFiles() throws -> TokenizerFiles? {
    let files = try source.smallFiles()
    return try TokenizerFiles(among: files.map(\.name)) { name in files.first { $0.name == name }?.bytes }
  }

  /// Refuses bytes of a text as token ids where they mean something else, or nothing.
  /// - Throws: `RequestError` usage.
  func requireBytes() throws {
    guard try tokenizerFiles() == nil else {
      throw RequestError(
        .usage, "--bytes is for models without a tokenizer, and '\(path)' has one", help: "leave --bytes away"
      )
    }
    let vocabulary = family.dimensions.vocabulary
    guard vocabulary >= 256 else {
      throw RequestError(
        .usage, "--bytes needs 256 token ids, and '\(path)' has \(vocabulary)",
        help: "give token ids with --tokens")
    }
  }

  /// Refuses a result that is one of the model's own files, or one of `others` that a command reads.
  /// - Throws: `OUT_ALIASES_INPUT`.
  package func refuseAlias(_ result: String, and others: [String] = []) throws(FormatError) {
    try SmeltStorage.refuseAlias(
      result: result, sources: files.map(\.path) + source.guardedPaths + others)
  }
}
