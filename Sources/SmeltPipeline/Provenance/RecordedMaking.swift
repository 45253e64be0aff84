// What a result records of its making, as far as it can be done again. Formats/attestation.md, section 1.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage

/// Why a comparison says nothing.
struct Obstacle: Error {
  let verdict: RederiveSummary.Verdict
  let problem: String

  init(_ verdict: RederiveSummary.Verdict, _ problem: String) {
    (self.verdict, self.problem) = (verdict, problem)
  }
}

/// What a result records of its making.
struct RecordedMaking {
  let provenance: JSON
  let tool: String
  /// XXH64 of the source's tensors, by their names, where the result carries its ledger; of one that several weights are parts of, each
  /// part's.
  private let hashes: [String: Set<String>]
  /// SHA-256 over all of them; nil where the container cannot say.
  private let hash: String?

  init(_ result: Model) throws {
    let origin = try result.source.recordedOrigin()
    guard let provenance = origin.provenance, let tool = provenance["tool"]?.string else {
      throw Obstacle(
        .noProvenance,
        "'\(result.path)' does not say what it was made from: another program wrote it, or no weight of it was changed"
      )
    }
    (self.provenance, self.tool) = (provenance, tool)
    var hashes: [String: Set<String>] = [:]
    for entry in origin.ledger?["ledger"]?.array ?? [] {
      guard let name = entry["source"]?.string, let hash = entry["source_xxh64"]?.string else { continue }
      hashes[name, default: []].insert(hash)
    }
    self.hashes = hashes
    hash =
      try provenance["source"]?["sha256"]?.string
      ?? result.smallFile(ModelCard.fileName).flatMap { ModelCard.statedHash(in: $0.array) }
  }

  /// The conversion that is recorded.
  /// - Parameter statistics: what its scales were chosen by, nil for none.
  /// - Throws: `Obstacle`.
  func options(_ source: Model, _ result: Model, _ statistics: Statistics?, _ asked: RederiveOptions) throws
    -> ConvertOptions
  {
    let recipe: Recipe
    let words: EngineWords
    let target: any ResultTarget
    let drafts: DraftFate
    do {
      drafts = try DraftFate(named: provenance["mtp"]?.string ?? DraftFate.quantize.rawValue)
      recipe = try Recipe(provenance["recipe"] ?? JSON(.null), file: result.path).recorded(
        for: source.family.weights)
      let container = try Container(result: result.path, asked: result.containerName)
      let recorded = provenance["target"]
      words = EngineWords(
        layout: recorded?["layout"]?.string, activations: recorded?["activations"]?.string,
        cache: recorded?["kv_cache"]?.string)
      target = try container.target(
        TargetOptions(
          // Codes that are meant for a coder are planned for a file that has one.
          compression: container.name == Container.ingot.name ? recipe.isEntropyCoded ? .fast : .raw : nil,
          scheme: recorded?["scheme"]?.string, engines: words))
    } catch let error as FormatError {
      throw Obstacle(.notReproducible, "the recipe that it records is not valid here: \(error.problem)")
    } catch let error as RequestError {
      throw Obstacle(.notReproducible, "what it records is not known here: \(error.problem)")
    }
    var options = ConvertOptions(
      recipe: recipe, statistics: statistics, target: target, drafts: drafts, run: asked.run)
    options.method = provenance["method"] ?? JSON(.null)
    return options
  }

  /// The statistics that the scales were chosen by, given or made again; nil where it was made without.
  /// - Parameter calibration: the calibration over the text that is given; nil where none is.
  /// - Throws: `Obstacle`; refusals of the statistics.
  func statistics(
    _ source: Model, _ calibration: RecordedCalibration?, in folder: String, _ asked: RederiveOptions
  ) throws -> Statistics? {
    guard let recorded = provenance["statistics"], !recorded.isNull else {
      guard asked.statistics == nil, calibration == nil else {
        let option = calibration == nil ? "--statistics" : "--calibration"
        throw Obstacle(.statisticsChanged, "it was made without statistics; leave \(option) away")
      }
      return nil
    }
    let hash = recorded["sha256"]?.string ?? ""
    if let path = asked.statistics {
      let found = try readStatistics(path, for: source)
      guard found.fileHash == hash else {
        throw Obstacle(
          .statisticsChanged,
          "'\(path)' has the SHA-256 \(found.fileHash ?? ""), it was made by statistics with \(hash)")
      }
      return found
    }
    guard let calibration else {
      let text = recorded["text_sha256"]?.string.map {
        "; or the text of their calibration, which has the SHA-256 \($0), with --calibration"
      }
      throw Obstacle(
        .statisticsNeeded,
        "its scales were chosen by statistics with the SHA-256 \(hash): give them with --statistics\(text ?? "")"
      )
    }
    let found = try calibration.statistics(source, in: folder, asked.run)
    guard found.fileHash == hash else {
      throw Obstacle(
        .statisticsChanged,
        "the text gives statistics with the SHA-256 \(found.fileHash ?? ""), it was made by others with \(hash)"
          + calibration.doubt)
    }
    return found
  }

  /// The source with the weights that the recorded method chooses in place of its own; the source where rounding to nearest was enough.
  /// - Throws: `Obstacle`; as `prepare`.
  func prepared(
    _ source: Model, _ calibration: RecordedCalibration?, in folder: String, _ options: ConvertOptions
  ) throws -> Model {
    guard !options.method.isNull else { return source }
    guard let calibration else {
      let hash = provenance["statistics"]?["text_sha256"]?.string
      throw Obstacle(
        .textNeeded,
        "codes were chosen by \(options.method["name"]?.string ?? "a method"), which looks at the inputs of a text: give it with "
          + "--calibration\(hash.map { "; it has the SHA-256 \($0)" } ?? "")")
    }
    let method: MethodOptions
    do {
      method = try MethodOptions(recorded: options.method)
    } catch let error as RequestError {
      throw Obstacle(.notReproducible, "the method that it records is not known here: \(error.problem)")
    }
    return try prepare(source, calibration.windows, for: joinPath(folder, "result"), method, options)
  }

  /// What headers tell: another container, other files.
  func sourceProblem(_ source: Model) -> String? {
    let recorded = provenance["source"]
    let container = recorded?["container"]?.string ?? "nothing"
    guard container == source.containerName else {
      return
        "it was made from a model in '\(container)', '\(source.path)' is one in '\(source.containerName)'"
    }
    if let hash = source.source.contentHash {
      let said = recorded?["content_hash"]?.string ?? "none"
      return hash == said
        ? nil : "it was made from an ingot with the content hash \(said), '\(source.path)' has \(hash)"
    }
    let files = recorded?["files"]?.array ?? []
    guard files.count == source.files.count else {
      return "it was made from \(files.count) files, '\(source.path)' has \(source.files.count)"
    }
    for (said, file) in zip(files, source.files) {
      let (name, bytes) = (said["name"]?.string ?? "", said["bytes"]?.integer ?? -1)
      guard name == fileName(file.path), bytes == file.byteCount else {
        return "it was made from '\(name)' of \(bytes) bytes, '\(source.path)' has "
          + "'\(fileName(file.path))' of \(file.byteCount)"
      }
    }
    return nil
  }

  /// What reading the source told: tensors with other bytes.
  func sourceProblem(_ ledger: [LedgerEntry], isWhole: Bool) -> String? {
    if let entry = ledger.first(where: { entry in
      entry.sourceHash.map { hash in hashes[entry.source].map { !$0.contains(hash) } ?? false } ?? false
    }) {
      return "'\(entry.source)' of the source has other bytes now: XXH64 \(entry.sourceHash ?? ""), "
        + "it was made from \(hashes[entry.source]?.sorted().joined(separator: ", ") ?? "")"
    }
    guard isWhole, let hash, hash != sourceHash(ledger) else { return nil }
    return
      "the source's tensors have other bytes now: their hash is \(sourceHash(ledger)), it was made from \(hash)"
  }
}
