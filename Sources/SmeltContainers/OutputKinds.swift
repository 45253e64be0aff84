// The kinds of files that Smelt writes, and what each is known by. `--overwrite` replaces a file of the kind that is being
// written, and refuses everything else: a kind of output without a mark here would be overwritten blindly, or never.
// Formats/manifest.md, section 3. Folders have a list of their own, `FolderManifest`.

package import SmeltStorage

extension OutputKind {
  /// An ingot, or a part of one: by its magic.
  package static let ingot = OutputKind("an ingot") { IngotFile.isIngot($0) }

  /// A GGUF model, or a part of one: by a key `smelt.…`.
  package static let gguf = OutputKind("a GGUF model") { path in
    guard let header = ggufHeader(path) else { return false }
    return header.hasSmeltKey && header.type != "imatrix"
  }

  /// An importance matrix: by a key `smelt.…`.
  package static let imatrix = OutputKind("an importance matrix") { path in
    guard let header = ggufHeader(path) else { return false }
    return header.hasSmeltKey && header.type == "imatrix"
  }

  /// Statistics of a calibration: by `format` in the metadata.
  package static let statistics = OutputKind("a statistics file") { hasFormat($0, "smelt.statistics/") }

  /// Logits: by `format` in the metadata.
  package static let logits = OutputKind("a file of logits") { hasFormat($0, "smelt.logits/") }

  /// A report of `verify` for machines: by its `schema`.
  package static let report = OutputKind("a report of verify") { hasSchema($0, "smelt.verify/") }

  /// A report of `verify` for people: by the page's generator.
  package static let reportPage = OutputKind("a page of verify") { isPage($0, "verify") }

  /// A statement of in-toto about a conversion: by the types of statement and predicate.
  package static let statement = OutputKind("a statement about a conversion") { path in
    guard let bytes = try? readSmallFile(path, limit: 1 << 30, code: .tokens),
      let json = try? JSON.scan(bytes, limits: JSONLimits(values: 64 << 20))
    else { return false }
    return json["_type"]?.string == statementType && json["predicateType"]?.string == predicateType
  }

  /// A comparison of several reports, for machines: by its `schema`.
  package static let comparison = OutputKind("a comparison of reports") { hasSchema($0, "smelt.compare/") }

  /// A comparison of several reports, for people: by the page's generator.
  package static let comparisonPage = OutputKind("a page of compare") { isPage($0, "compare") }

  /// What two models differ in, for people: by the page's generator.
  package static let differencePage = OutputKind("a page of diff") { isPage($0, "diff") }

  /// A page about a calibration: by the page's generator.
  package static let calibrationPage = OutputKind("a page of calibrate") { isPage($0, "calibrate") }

  /// A picture of how tokens cover experts: by its metadata.
  package static let heatMap = OutputKind("a heat map") { path in
    let head = head(path)
    return head.hasPrefix("<svg ") && head.contains("\n\(heatMapMark)")
  }

  /// A recipe that a budget chose: by `saved`, which must be the hash of the rest, since recipes are edited by hand.
  package static let recipe = OutputKind("a recipe that --save-recipe wrote unedited") { path in
    guard let bytes = try? readSmallFile(path, limit: 16 << 20, code: .recipe).array,
      let json = try? JSON.scan(Bytes(bytes)), json["schema"]?.string?.hasPrefix("smelt.recipe/") == true,
      let saved = json["saved"]?.string
    else { return false }
    return Array(savedText(json.text(), saved: saved).utf8) == bytes
  }

  /// What stands beside a part of a cluster's work: by its `schema`.
  package static let unitManifest = OutputKind("the list of a part") { hasSchema($0, "smelt.unit/") }

  /// All of them.
  package static let all: [OutputKind] = [
    .ingot, .gguf, .imatrix, .statistics, .logits, .report, .reportPage, .comparison, .comparisonPage,
    .differencePage, .calibrationPage, .heatMap, .recipe, .statement, .unitManifest,
  ]

  // MARK: marks that writers outside this room put into their files

  /// The type of a statement of in-toto.
  package static let statementType = "https://in-toto.io/Statement/v1"

  /// The predicate type of a statement: a URN defined in Formats/attestation.md, with the version of its members.
  package static let predicateType = "urn:smelt:conversion:1"

  /// Begins the line of a heat map that names the program.
  package static let heatMapMark = "<metadata>smelt "

  /// Begins the second element of the head of a page.
  package static let pageMark = "<meta name=\"generator\" content=\"smelt "

  /// The key of a GGUF file, each part of it, that names the program.
  package static let writerKey = "smelt.writer"

  /// The text of a recipe as `--save-recipe` writes it: `saved` holds the hash of the text without it.
  package static func savedText(_ recipe: JSON) -> String {
    let text = recipe.text()
    return savedText(text, saved: hexadecimal(Array(text.utf8).withUnsafeBytes { xxh64($0) }))
  }
}

extension OutputKind {
  /// A recipe's text with `saved` as its last member, right only where that is the hash of the text without it.
  private static func savedText(_ text: String, saved: String) -> String {
    let member = ",\"saved\":\"\(saved)\"}"
    let plain = text.hasSuffix(member) ? String(text.dropLast(member.count)) + "}" : text
    let hash = hexadecimal(Array(plain.utf8).withUnsafeBytes { xxh64($0) })
    return plain.dropLast() + ",\"saved\":\"\(hash)\"}\n"
  }

  private static func ggufHeader(_ path: String) -> (hasSmeltKey: Bool, type: String?)? {
    guard GGUFFile.isGGUF(path), let part = try? GGUFPart(path: path, resolved: path) else { return nil }
    let metadata = part.header.metadata
    var type: String?
    if case .string(let text)? = metadata.first(where: { $0.key == "general.type" })?.value { type = text }
    return (metadata.contains { $0.key.hasPrefix("smelt.") }, type)
  }

  private static func hasFormat(_ path: String, _ prefix: String) -> Bool {
    guard let file = try? SafetensorsFile(path: path) else { return false }
    return file.metadata.contains { $0.0 == "format" && $0.1.hasPrefix(prefix) }
  }

  private static func hasSchema(_ path: String, _ prefix: String) -> Bool {
    guard let bytes = try? readSmallFile(path, limit: 1 << 30, code: .tokens),
      let json = try? JSON.scan(bytes, limits: JSONLimits(values: 64 << 20))
    else { return false }
    return json["schema"]?.string?.hasPrefix(prefix) == true
  }

  private static func isPage(_ path: String, _ verb: String) -> Bool {
    let head = head(path)
    guard head.hasPrefix("<!doctype html>\n"),
      let mark = head.firstRange(of: "<meta charset=\"utf-8\">\(pageMark)")
    else { return false }
    let rest = head[mark.upperBound...].prefix { $0 != "\"" }
    return rest.hasSuffix(" \(verb)")
  }

  /// The first bytes of a file as text.
  private static func head(_ path: String) -> String {
    guard let file = try? MappedFile(path: path) else { return "" }
    return String(decoding: file.bytes[0..<min(file.count, 1024)].array, as: UTF8.self)
  }
}
