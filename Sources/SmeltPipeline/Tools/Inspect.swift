// `inspect`: what a model is, from headers alone.

import SmeltContainers
package import SmeltModels
package import SmeltStorage
import SmeltTensors
import SmeltTokenizers

/// One tensor as a listing shows it.
package struct TensorListing: Sendable {
  /// The tensor's name (canonical in an ingot).
  package var name: String
  /// The element type (the encoding in an ingot).
  package var dtype: String
  /// The dimensions.
  package var shape: [Int]
  /// Stored bytes.
  package var bytes: Int
  /// The file that holds it.
  package var file: String
}

/// A model's tokenizer as `inspect` shows it.
package struct TokenizerFacts: Sendable {
  /// Its file; nil without one.
  package var file: String?
  /// What that is: `tokenizer.json`, `tiktoken` or `SentencePiece`; `none` without one.
  package var kind = "none"
  /// How many tokens it has, added ones included; nil where it is not read.
  package var vocabulary: Int?
  /// Why it is not read.
  package var problem: String?

  /// Reads the tokenizer of a model.
  init(_ model: Model) {
    do {
      guard let files = try model.tokenizerFiles() else { return }
      (file, kind) = (files.file, files.kind.rawValue)
      vocabulary = try files.tokenizer().vocabularySize
    } catch {
      if file == nil { kind = model.containerName }
      problem = TokenizerFacts.words(error)
    }
  }

  private static func words(_ error: any Error) -> String {
    switch error {
    case let error as FormatError: "\(error.code.name): \(error.problem)"
    case let error as RequestError: error.problem
    default: "\(error)"
    }
  }

  var json: JSON {
    [
      "file": JSON(file), "kind": JSON(kind),
      "vocabulary": vocabulary.map { JSON($0) } ?? JSON(.null), "problem": JSON(problem),
    ]
  }

  var text: String {
    let name = file.map { $0 == kind ? kind : "\(kind) (\($0))" } ?? kind
    if let vocabulary { return printable("\(name), \(grouped(vocabulary)) tokens") }
    return printable(problem.map { "\(name), not read: \(excerpt($0, limit: 200))" } ?? name)
  }
}

/// What `inspect` says; the JSON contract of DESIGN.
package struct Inspection: Sendable {
  /// `safetensors`, `gguf` or `ingot`.
  package var container: String
  /// The `model_type`.
  package var family: String
  /// The dialect of the names, or `canonical` in an ingot.
  package var dialect: String
  /// The files with their sizes.
  package var files: [(name: String, bytes: Int)]
  /// Numbers the forward pass uses.
  package var parameters: Int
  /// Numbers one token meets.
  package var activeParameters: Int
  /// Sizes.
  package var dimensions: ModelDimensions
  /// Weights by encoding, with their count and their bytes.
  package var encodings: [(name: String, weights: Int, bytes: Int)]
  /// Blocks that draft tokens, where it carries any.
  package var drafts: CarriedDrafts?
  /// Tensors left out by a named rule.
  package var dropped: Int
  /// The same by rule.
  package var leftOut: [LeftOut]
  /// Things worth saying.
  package var warnings: [String]
  /// SHA-256 of what an ingot holds, however it is stored.
  package var contentHash: String?
  /// Where an ingot came from and what was proven of it.
  package var facts: IngotFacts?
  /// The tokenizer.
  package var tokenizer: TokenizerFacts
  /// Why nothing runs; nil where there is a forward pass.
  package var noForwardPass: String?
  fileprivate var source: any ModelSource

  /// All tensors, listed anew each time.
  package var tensors: [TensorListing] {
    var last = (path: "", name: "")
    return source.tensors.map {
      if $0.file != last.path { last = ($0.file, fileName($0.file)) }
      return TensorListing(
        name: $0.name, dtype: $0.type, shape: $0.shape.dimensions, bytes: $0.byteCount, file: last.name)
    }
  }

  /// Bytes of all files.
  package var bytes: Int { files.reduce(0) { $0 + $1.bytes } }

  /// The contract's JSON.
  package func json(withTensors: Bool) -> JSON {
    var members: [(String, JSON)] = [
      ("schema", "smelt.inspect/1"), ("container", JSON(container)), ("family", JSON(family)),
      ("dialect", JSON(dialect)),
      ("files", JSON(files.map { ["name": JSON($0.name), "bytes": JSON($0.bytes)] })), ("bytes", JSON(bytes)),
      ("parameters", JSON(parameters)), ("active_parameters", JSON(activeParameters)),
      ("layers", JSON(dimensions.layers)), ("experts", JSON(dimensions.experts)),
      ("experts_per_token", JSON(dimensions.expertsPerToken)), ("hidden", JSON(dimensions.hidden)),
      ("vocabulary", JSON(dimensions.vocabulary)),
      (
        "encodings",
        JSON(encodings.map { ["name": JSON($0.name), "weights": JSON($0.weights), "bytes": JSON($0.bytes)] })
      ),
      ("dropped", JSON(dropped)), ("left_out", JSON(leftOut.map(\.json))),
      ("warnings", JSON(warnings.map { JSON($0) })), ("tokenizer", tokenizer.json),
      ("no_forward_pass", JSON(noForwardPass)),
    ]
    if let drafts { members.append(("mtp", drafts.json)) }
    if let contentHash { members.append(("content_hash", JSON(contentHash))) }
    if let facts { members += facts.members }
    if withTensors {
      members.append(
        (
          "tensors",
          JSON(
            tensors.map {
              [
                "name": JSON($0.name), "dtype": JSON($0.dtype), "shape": JSON($0.shape.map { JSON($0) }),
                "bytes": JSON($0.bytes), "file": JSON($0.file),
              ]
            })
        ))
    }
    return JSON(members: members)
  }

  /// What a person reads.
  package func text(withTensors: Bool) -> String {
    var facts = Table(["", ""])
    facts.add([
      "container", "\(container), \(files.count) file\(files.count == 1 ? "" : "s"), \(byteText(bytes))",
    ])
    let experts =
      dimensions.experts > 0
      ? "\(dimensions.experts) experts (\(dimensions.expertsPerToken) a token)" : "no experts"
    facts.add(["family", "\(printable(excerpt(family))), names of dialect '\(dialect)'"])
    facts.add(["parameters", "\(grouped(parameters)) (\(grouped(activeParameters)) a token)"])
    facts.add([
      "shape",
      "\(dimensions.layers) layers, \(experts), hidden \(dimensions.hidden), vocabulary \(grouped(dimensions.vocabulary))",
    ])
    if let drafts { facts.add(["MTP", drafts.text]) }
    facts.add(["tokenizer", tokenizer.text])
    if let noForwardPass { facts.add(["forward pass", "none: \(printable(noForwardPass))"]) }
    for left in leftOut { facts.add(["left out", left.text]) }
    if let contentHash { facts.add(["content hash", contentHash]) }
    for (name, value) in self.facts?.lines ?? [] { facts.add([name, value]) }
    var table = Table(["encoding", "weights", "bytes"])
    for encoding in encodings { table.add([encoding.name, "\(encoding.weights)", byteText(encoding.bytes)]) }
    var lines = [facts.text, "", table.text]
    if withTensors {
      var listing = Table(["tensor", "dtype", "shape", "bytes", "file"])
      for tensor in tensors {
        listing.add([
          printable(tensor.name), tensor.dtype, Shape(tensor.shape).description, "\(tensor.bytes)",
          tensor.file,
        ])
      }
      lines += ["", listing.text]
    }
    lines += warnings.map { "warning: \($0)" }
    return lines.joined(separator: "\n")
  }
}

/// Looks at a model's headers.
package func inspect(_ model: Model) throws -> Inspection {
  let family = model.family
  var encodings: [(name: String, weights: Int, bytes: Int)] = []
  var drafts = CarriedDrafts()
  try model.source.forEachStoredWeight { weight in
    let (name, byteCount) = (weight.encoding.name, weight.byteCount)
    if weight.spec.isDraft { drafts.add(weight) }
    if let known = encodings.firstIndex(where: { $0.name == name }) {
      encodings[known].weights += 1
      encodings[known].bytes += byteCount
    } else {
      encodings.append((name, 1, byteCount))
    }
  }
  // Blocks that draft tokens are counted beside the model.
  var (parameters, routed, embedding) = (0, 0, 0)
  var isTied = true
  for weight in family.weights where weight.role != .hashTable && !weight.isDraft {
    let (shape, role) = (weight.shape, weight.role)
    parameters += shape.count
    if weight.expert != nil { routed += shape.count }
    // Of the embedding a token needs a row, unless it is the output head too.
    if role == .embedding { embedding += shape.count - shape.columns }
    if role == .outputHead { isTied = false }
  }
  if isTied { embedding = 0 }
  let share = Double(family.dimensions.expertsPerToken) / Double(max(1, family.dimensions.experts))
  return Inspection(
    container: model.containerName, family: family.modelType, dialect: model.source.dialect,
    files: model.files.map { (fileName($0.path), $0.byteCount) }, parameters: parameters,
    activeParameters: parameters - routed - embedding + Int((Double(routed) * share).rounded()),
    dimensions: family.dimensions, encodings: encodings, drafts: model.carriedDrafts(drafts),
    dropped: model.source.droppedTensors.count,
    leftOut: model.leftOut,
    warnings: model.warnings,
    contentHash: model.source.contentHash, facts: try model.source.facts(),
    tokenizer: TokenizerFacts(model), noForwardPass: model.noForwardPass, source: model.source)
}
