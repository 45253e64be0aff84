// Chat templates on their way into a GGUF file. Which of several counts is transformers' order: files that hold nothing else, then
// the field of tokenizer_config.json, then the file that processors once had. The keys are those of gguf-py.

import SmeltStorage

extension GGUFTokenizerWriter {
  /// One template and the name it is asked for by; `default` is the one that is used unasked.
  private typealias Template = (name: String, text: String)

  /// `tokenizer.chat_template.NAME` for each named one, `tokenizer.chat_templates` with their names, `tokenizer.chat_template`.
  /// - Parameter notes: receives what is not written.
  func templates(_ notes: inout [String]) throws -> [(key: String, value: MetadataValue)] {
    let key = "tokenizer.chat_template"
    var named: [(key: String, value: MetadataValue)] = []
    var names: [String] = []
    var plain: String?
    for (name, text) in try chosen(&notes) {
      if name == "default" {
        plain = text
        continue
      }
      let safe = String(name.unicodeScalars.map { Self.isPlain($0) ? Character($0) : "_" })
      guard !safe.isEmpty, !names.contains(safe) else {
        notes.append(
          "the chat template '\(printable(excerpt(name)))' is left out: GGUF would call it '\(safe)', as another"
        )
        continue
      }
      names.append(safe)
      named.append(("\(key).\(safe)", .string(text)))
    }
    if !names.isEmpty { named.append(("tokenizer.chat_templates", .strings(names))) }
    if let plain { named.append((key, .string(plain))) }
    return named
  }

  private func chosen(_ notes: inout [String]) throws -> [Template] {
    var fromFiles: [Template] = []
    if let template = files.chatTemplate {
      fromFiles.append(("default", try text(template, GGUFTokenizer.templateFile)))
    }
    for (name, template) in files.namedTemplates {
      let text = try text(template, GGUFTokenizer.file(ofTemplate: name))
      // One that is called so replaces the one without a name, as transformers reads them.
      fromFiles.removeAll { $0.name == name }
      fromFiles.append((name, text))
    }
    let field = try Self.templates(tokenizerConfig["chat_template"], GGUFTokenizer.configFile)
    if !fromFiles.isEmpty {
      let isOther = field.contains { old in !fromFiles.contains { $0 == old } }
      if isOther {
        notes.append(
          "the chat template in \(GGUFTokenizer.configFile) is not used: the files of chat templates count before it"
        )
      }
      return fromFiles
    }
    if !field.isEmpty { return field }
    guard let file = files.processorTemplate else { return [] }
    let json = try Self.scan(file, GGUFTokenizer.processorTemplateFile)
    return try Self.templates(json["chat_template"], GGUFTokenizer.processorTemplateFile)
  }

  /// One text, or a list of named ones.
  private static func templates(_ value: JSON?, _ file: String) throws -> [Template] {
    guard let value, !value.isNull else { return [] }
    if let text = value.string { return [("default", text)] }
    if let object = value.object {
      return zip(object.keys, object.values).compactMap { name, text in text.string.map { (name, $0) } }
    }
    guard let list = value.array else {
      throw FormatError(
        .tokenizerValue, file: file, subject: "chat_template", offset: value.offset,
        "found \(value.kind), expected a text or a list of named texts")
    }
    return list.compactMap { entry in
      guard let name = entry["name"]?.string, let text = entry["template"]?.string else { return nil }
      return (name, text)
    }
  }

  private func text(_ bytes: Bytes, _ file: String) throws -> String {
    if let place = bytes.withUnsafeBytes({ UTF8Check.firstInvalid($0) }) {
      throw FormatError(.tokenizerValue, file: file, offset: place, "is not UTF-8, expected a chat template")
    }
    guard bytes.count <= 16 << 20 else {
      throw FormatError(
        .tokenizerValue, file: file,
        "has \(bytes.count) bytes, expected at most 2^24, the longest text of GGUF")
    }
    return String(decoding: bytes.array, as: UTF8.self)
  }

  private static func isPlain(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar {
    case "a"..."z", "A"..."Z", "0"..."9": true
    default: false
    }
  }
}
