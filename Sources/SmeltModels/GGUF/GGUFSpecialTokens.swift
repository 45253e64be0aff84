// Which tokens have a task, and which are put round a text. Four places say so, and models disagree with themselves; the order
// of belief is that of llama.cpp's converter: the post-processor, tokenizer_config.json, config.json.

import SmeltStorage

/// The tokens with a task of one tokenizer.
struct GGUFSpecialTokens {
  /// Tasks with their ids, in the order in which they are written.
  private(set) var ids: [(task: GGUFTokenizer.Task, id: Int)] = []
  /// Whether the first (`bos`), the last (`eos`), the separating token (`sep`) is put in. Nil: nothing says so.
  var adds: [String: Bool] = [:]

  /// The texts by task, as tokenizer_config.json names them and the post-processor corrects them.
  private var texts: [String: String] = [:]

  init(root: JSON, tokenizerConfig: JSON, config: JSON) {
    for task in GGUFTokenizer.tasks {
      let value = tokenizerConfig[task.name + "_token"]
      texts[task.name] = value?.string ?? value?["content"]?.string
    }
    texts["bos"] = texts["bos"] ?? texts["cls"]
    texts["eos"] = texts["eos"] ?? texts["sep"]
    if let processor = root["post_processor"] {
      for part in processor["processors"]?.array ?? [processor] { read(part) }
    }
    for name in ["bos", "eos", "sep"] where adds[name] == nil {
      adds[name] = tokenizerConfig["add_\(name)_token"]?.bool
    }
    resolve(root, config)
  }

  private mutating func read(_ processor: JSON) {
    switch processor["type"]?.string {
    case "ByteLevel":
      adds["bos"] = adds["bos"] ?? false
      adds["eos"] = adds["eos"] ?? false
    case "RobertaProcessing":
      adds = ["bos": true, "eos": true, "sep": true]
      texts["cls"] = texts["cls"] ?? processor["cls"]?.array?.first?.string ?? texts["bos"]
      texts["sep"] = texts["sep"] ?? processor["sep"]?.array?.first?.string ?? texts["eos"]
    case "TemplateProcessing":
      readTemplate(processor["single"]?.array ?? [], processor["pair"]?.array ?? [])
    default: break
    }
  }

  /// What a template says: the token before the text, the one behind it, one between two texts.
  private mutating func readTemplate(_ single: [JSON], _ pair: [JSON]) {
    func special(_ step: JSON?) -> String? { step?["SpecialToken"]?["id"]?.string }
    var first: String?
    var last: String?
    if single.count > 1 {
      first = special(single.first)
      last = special(single.last)
      if let first {
        if first != texts["bos"], first != texts["cls"] {
          texts["bos"] = texts["bos"] ?? first
          texts["cls"] = texts["cls"] ?? first
        }
        adds["bos"] = first == texts["bos"] || first == texts["cls"]
      }
      if let last {
        if last != texts["eos"] {
          // What ends a text is not what ends a turn.
          if texts["eot"] == nil {
            texts["eot"] = texts["eos"]
          } else {
            texts["eom"] = texts["eom"] ?? texts["eos"]
          }
          texts["eos"] = last
        }
        adds["eos"] = true
      }
    }
    var between = pair[...]
    if let first, special(between.first) == first { between = between.dropFirst() }
    if let last, special(between.last) == last { between = between.dropLast() }
    guard between.count > 2, between.first?["Sequence"]?["id"]?.string == "A",
      between.last?["Sequence"]?["id"]?.string == "B"
    else { return }
    let tokens = between.dropFirst().dropLast().map { special($0) }
    func separates(_ text: String?) -> Bool { text != nil && (text == texts["sep"] || text == texts["eos"]) }
    adds["sep"] = separates(tokens.first ?? nil) && last == nil || tokens.count == 2 && separates(tokens[1])
    if adds["sep"] == true, texts["sep"] == nil { texts["sep"] = texts["eos"] }
  }

  /// Texts become the ids of added tokens; what is then without an id has that of config.json, and last that of a token
  /// of the vocabulary, where the converter has none.
  private mutating func resolve(_ root: JSON, _ config: JSON) {
    let added = root["added_tokens"]?.array ?? []
    let vocabulary = root["model"]?["vocab"]
    let sources: [(GGUFTokenizer.Task) -> Int?] = [
      { [texts] task in
        guard let text = texts[task.name] else { return nil }
        return added.first { $0["content"]?.string?.utf8.elementsEqual(text.utf8) == true }?["id"]?.integer
      },
      { task in
        let key = task.name + "_token_id"
        return (config[key] ?? config["text_config"]?[key])?.integer
      },
      { [texts] task in texts[task.name].flatMap { vocabulary?[$0]?.integer } },
    ]
    for source in sources {
      // The key of `cls` is read but no longer written: it was `bos` by another name.
      for task in GGUFTokenizer.tasks where task.name != "cls" {
        guard !ids.contains(where: { $0.task.name == task.name }), let id = source(task), id >= 0 else {
          continue
        }
        ids.append((task, id))
      }
    }
  }
}
