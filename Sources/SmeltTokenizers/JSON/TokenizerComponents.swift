// The components of a tokenizer.json around its model: normalizer, pre-tokenizer, decoder. Each is a tree of typed objects in
// the file and a flat list of steps here.

package import SmeltStorage

/// Reads components by their type names.
package struct TokenizerComponents {
  let file: String

  /// A reader of the components of one file; the name is for messages.
  package init(file: String) { self.file = file }

  /// The most steps of one component; published tokenizers have up to five.
  private static let stepLimit = 64

  /// GPT-2's pattern, which `ByteLevel` cuts with.
  private static let byteLevelPattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

  // MARK: the three components

  package func normalizer(_ json: JSON?) throws -> [NormalizerStep] {
    var steps: [NormalizerStep] = []
    try each(json, "normalizer", list: "normalizers") { type, json in
      switch type {
      case "NFC", "NFD", "NFKC", "NFKD":
        if let form = UnicodeNormalization(rawValue: type) { steps.append(.form(form)) }
      case "Lowercase": steps.append(.lowercase)
      case "Prepend": steps.append(.prepend(Array(try text(json, "prepend").utf8)))
      case "Replace":
        steps.append(.replace(try pattern(json, "normalizer"), Array(try text(json, "content").utf8)))
      case "Strip":
        steps.append(
          .strip(left: try flag(json, "strip_left", nil), right: try flag(json, "strip_right", nil)))
      case "ByteLevel": steps.append(.spellBytes)
      case "Precompiled":
        if let map = try characterMap(json) { steps.append(.characterMap(map)) }
      default: throw unsupported("the normalizer '\(type)'")
      }
      return steps.count
    }
    return steps
  }

  /// The steps, and whether the model reads bytes: whether the last thing done is spelling them in the byte alphabet,
  /// which then is left out.
  package func preTokenizer(_ json: JSON?) throws -> (steps: [PreTokenizerStep], isByteLevel: Bool) {
    var steps: [PreTokenizerStep] = []
    try each(json, "pre_tokenizer", list: "pretokenizers") { type, json in
      steps += try preTokenizer(type, json)
      return steps.count
    }
    if case .spellBytes = steps.last { return (steps.dropLast(), true) }
    return (steps, false)
  }

  private func preTokenizer(_ type: String, _ json: JSON) throws -> [PreTokenizerStep] {
    switch type {
    case "ByteLevel":
      var steps: [PreTokenizerStep] = []
      if try flag(json, "add_prefix_space", true) { steps.append(.prefixSpace) }
      if try flag(json, "use_regex", true) {
        let pattern = try compiled("pre_tokenizer") { () throws(PatternError) in
          try SplitPattern(regex: Self.byteLevelPattern)
        }
        steps.append(.split(pattern, .isolated, inverted: false))
      }
      return steps + [.spellBytes]
    case "Split":
      return [
        .split(
          try pattern(json, "pre_tokenizer"), try behavior(json, default: nil),
          inverted: try flag(json, "invert", false))
      ]
    case "Digits":
      return [
        try split(UnicodeClasses.number, try flag(json, "individual_digits", false) ? .isolated : .contiguous)
      ]
    case "Punctuation": return [try split(UnicodeClasses.punctuation, try behavior(json, default: .isolated))]
    case "WhitespaceSplit": return [try split(UnicodeClasses.space, .removed)]
    case "BertPreTokenizer":
      return [try split(UnicodeClasses.space, .removed), try split(UnicodeClasses.punctuation, .isolated)]
    case "Whitespace":
      let word = UnicodeClasses.joinedWord
      let other = word.union(UnicodeClasses.space).inverted()
      let runs = [word, other].map {
        PatternNode.repeated(.set($0), minimum: 1, maximum: nil, mode: .greedy)
      }
      let pattern = try compiled("pre_tokenizer") { () throws(PatternError) in try SplitPattern(.choice(runs))
      }
      return [.split(pattern, .removed, inverted: true)]
    case "Metaspace":
      let mark = try mark(json)
      let prepend = try metaspacePrepend(json)
      let pattern = try compiled("pre_tokenizer") { () throws(PatternError) in try SplitPattern(text: mark) }
      let steps: [PreTokenizerStep] = [.metaspace(replacement: Array(mark.utf8), prepend: prepend)]
      return try flag(json, "split", true)
        ? steps + [.split(pattern, .mergedWithNext, inverted: false)] : steps
    default: throw unsupported("the pre-tokenizer '\(type)'")
    }
  }

  func decoder(_ json: JSON?) throws -> [TokenDecoderStep]? {
    guard let json, !json.isNull else { return nil }
    var steps: [TokenDecoderStep] = []
    try each(json, "decoder", list: "decoders") { type, json in
      switch type {
      case "ByteLevel": steps.append(.byteLevel)
      case "ByteFallback": steps.append(.byteFallback)
      case "Fuse": steps.append(.fuse)
      case "Replace":
        steps.append(.replace(try pattern(json, "decoder"), Array(try text(json, "content").utf8)))
      case "Strip":
        steps.append(
          .strip(
            content: Array(try text(json, "content").utf8), left: try count(json, "start"),
            right: try count(json, "stop")))
      case "Metaspace":
        let mark = try mark(json)
        let pattern = try compiled("decoder") { () throws(PatternError) in try SplitPattern(text: mark) }
        steps.append(.metaspace(pattern, dropsFirst: try metaspacePrepend(json) != .never))
      case "BPEDecoder":
        let suffix = try text(json, "suffix")
        let pattern = try compiled("decoder") { () throws(PatternError) in try SplitPattern(text: suffix) }
        steps.append(.suffix(pattern))
      default: throw unsupported("the decoder '\(type)'")
      }
      return steps.count
    }
    return steps
  }

  /// Calls `body` with every component of a tree, `Sequence` opened up. It returns the number of steps so far.
  private func each(_ json: JSON?, _ subject: String, list: String, _ body: (String, JSON) throws -> Int)
    throws
  {
    guard let json, !json.isNull else { return }
    guard json.object != nil else { throw form(subject, json, "an object or null") }
    guard let type = json["type"]?.string else {
      throw FormatError(.tokenizerJSON, file: file, subject: subject, offset: json.offset, "found no type")
    }
    guard type == "Sequence" else {
      guard try body(type, json) <= Self.stepLimit else {
        throw unsupported("a \(subject) of more than \(Self.stepLimit) steps")
      }
      return
    }
    guard let members = json[list] else {
      throw FormatError(.tokenizerJSON, file: file, subject: subject, offset: json.offset, "found no \(list)")
    }
    guard let array = members.array else { throw form(list, members, "a list") }
    for member in array { try each(member, subject, list: list, body) }
  }

  /// The compiled map of a `Precompiled`, in base64; nil for an empty one.
  private func characterMap(_ json: JSON) throws -> CharacterMap? {
    let key = "precompiled_charsmap"
    guard let member = json[key], !member.isNull else { return nil }
    guard let text = member.string else { throw form(key, member, "a string") }
    guard !text.isEmpty else { return nil }
    guard text.utf8.count < CharacterMap.byteLimit, let bytes = Base64.decode(Array(text.utf8)) else {
      throw FormatError(
        .tokenizerValue, file: file, subject: key, offset: member.offset,
        "found no base64, or more than a map holds")
    }
    switch CharacterMap.read(bytes) {
    case .success(let map): return map
    case .failure(let error):
      throw FormatError(.tokenizerValue, file: file, subject: key, offset: member.offset, error.problem)
    }
  }

  // MARK: patterns

  /// The member `pattern`: `{"Regex": …}` or `{"String": …}`.
  private func pattern(_ json: JSON, _ subject: String) throws -> SplitPattern {
    guard let pattern = json["pattern"] else {
      throw FormatError(.tokenizerJSON, file: file, subject: subject, offset: json.offset, "found no pattern")
    }
    if let regex = pattern["Regex"]?.string {
      do throws(PatternError) {
        return try SplitPattern(regex: regex)
      } catch {
        if error.unsupported { throw unsupported("\(error.problem) in the pattern '\(regex)'") }
        throw FormatError(
          .tokenizerValue, file: file, subject: subject, offset: pattern.offset,
          "\(error.problem) in the pattern '\(regex)'")
      }
    }
    if let text = pattern["String"]?.string {
      return try compiled(subject) { () throws(PatternError) in try SplitPattern(text: text) }
    }
    throw form("pattern", pattern, "an object with Regex or String")
  }

  /// A pattern that cannot be wrong, only too long.
  private func compiled(
    _ subject: String, _ make: () throws(PatternError) -> SplitPattern
  ) throws -> SplitPattern {
    do throws(PatternError) {
      return try make()
    } catch {
      throw unsupported("\(error.problem) in a pattern of the \(subject)")
    }
  }

  private func split(_ set: ScalarSet, _ behavior: SplitBehavior) throws -> PreTokenizerStep {
    let pattern = try compiled("pre_tokenizer") { () throws(PatternError) in try SplitPattern(.set(set)) }
    return .split(pattern, behavior, inverted: false)
  }

  // MARK: values and refusals

  private func behavior(_ json: JSON, default otherwise: SplitBehavior?) throws -> SplitBehavior {
    guard let member = json["behavior"] else {
      if let otherwise { return otherwise }
      throw FormatError(
        .tokenizerJSON, file: file, subject: "Split", offset: json.offset, "found no behavior")
    }
    guard let name = member.string else { throw form("behavior", member, "a string") }
    guard let behavior = SplitBehavior(rawValue: name) else {
      throw unsupported("the split behavior '\(name)'")
    }
    return behavior
  }

  /// The mark of a `Metaspace`: one scalar.
  private func mark(_ json: JSON) throws -> String {
    let mark = try text(json, "replacement")
    guard mark.unicodeScalars.count == 1 else {
      throw FormatError(
        .tokenizerValue, file: file, subject: "replacement",
        offset: json["replacement"]?.offset ?? json.offset,
        "found '\(mark)', expected one character")
    }
    return mark
  }

  private func metaspacePrepend(_ json: JSON) throws -> MetaspacePrepend {
    guard let member = json["prepend_scheme"] else {
      // The spelling of older files.
      return try flag(json, "add_prefix_space", true) ? .always : .never
    }
    guard let name = member.string else { throw form("prepend_scheme", member, "a string") }
    guard let scheme = MetaspacePrepend(rawValue: name) else {
      throw unsupported("the prepend scheme '\(name)'")
    }
    return scheme
  }

  private func text(_ json: JSON, _ key: String) throws -> String {
    guard let member = json[key] else {
      throw FormatError(.tokenizerJSON, file: file, subject: key, offset: json.offset, "found none")
    }
    guard let text = member.string else { throw form(key, member, "a string") }
    return text
  }

  private func flag(_ json: JSON, _ key: String, _ otherwise: Bool?) throws -> Bool {
    guard let member = json[key], !member.isNull else {
      if let otherwise { return otherwise }
      throw FormatError(.tokenizerJSON, file: file, subject: key, offset: json.offset, "found none")
    }
    guard let flag = member.bool else { throw form(key, member, "a truth value") }
    return flag
  }

  private func count(_ json: JSON, _ key: String) throws -> Int {
    guard let member = json[key] else {
      throw FormatError(.tokenizerJSON, file: file, subject: key, offset: json.offset, "found none")
    }
    guard let count = member.integer, count >= 0 else {
      throw FormatError(
        .tokenizerValue, file: file, subject: key, offset: member.offset,
        "found \(member.kind), expected a count")
    }
    return count
  }

  private func form(_ subject: String, _ json: JSON, _ expected: String) -> FormatError {
    FormatError(
      .tokenizerJSON, file: file, subject: subject, offset: json.offset,
      "found \(json.kind), expected \(expected)")
  }

  private func unsupported(_ what: String) -> RequestError {
    RequestError(
      .unsupported, "\(what) in \(file) is not supported",
      help: "report the tokenizer; a step left out would give wrong ids")
  }
}
