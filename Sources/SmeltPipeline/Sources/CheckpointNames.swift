// Names that no weight has: left out by a named rule, by the user's word, or refused; and names that a weight should have.

import SmeltContainers
import SmeltModels
import SmeltStorage
import SmeltTensors

extension DropRule {
  /// Tables that older writers stored beside the weights: the rotation's frequencies, cosines and sines.
  static let rotaryFrequencies = DropRule(
    "rotary-frequencies", "frequencies of the rotation follow from config.json", prefixes: [])

  /// Blocks that draft tokens, where a result holds none.
  /// - Parameter reason: why it holds none.
  static func mtp(_ reason: String) -> DropRule { DropRule("mtp", reason, prefixes: []) }

  /// The user's rule for a tensor of a block that drafts tokens: no number of the model's own pass depends on it.
  static func allowed(_ draft: String, _ patterns: [String]) -> DropRule? {
    patterns.first { $0 == draft || matchesGlob($0, draft) }.map {
      DropRule(
        "allow-drop \($0)", "the user allows that tensors of this name are left out", prefixes: [])
    }
  }

  /// Whether the user leaves a tensor of such a block out.
  static func isAllowed(_ draft: String, _ patterns: [String]) -> Bool { allowed(draft, patterns) != nil }
}

/// The rules that leave tensors out of any model of a family, ready for many questions.
struct KnownRules {
  private let rules: [DropRule]
  /// What the names begin with that some rule covers, in order, none of them the beginning of another; nil where some are not ASCII,
  /// whose order is another.
  private let starts: [String]?

  /// The rules of a family.
  init(_ family: any ModelFamily) {
    rules = family.dropRules
    let all = rules.flatMap(\.prefixes)
    guard all.allSatisfy({ $0.utf8.allSatisfy { $0 < 0x80 } }) else {
      starts = nil
      return
    }
    var kept: [String] = []
    for start in all.sorted() where !(kept.last.map { start.hasPrefix($0) } ?? false) { kept.append(start) }
    starts = kept
  }

  /// The rule that leaves a tensor out, or nil.
  func rule(for tensor: String) -> DropRule? {
    if mayCover(tensor), let rule = rules.first(where: { $0.covers(tensor) }) { return rule }
    // The last letters of the words below.
    guard let last = tensor.utf8.last, last == UInt8(ascii: "q") || last == UInt8(ascii: "d") else {
      return nil
    }
    let words = tensor.split(separator: ".")
    guard words.count > 1, ["rotary_emb", "rotary_pos_emb"].contains(words[words.count - 2]),
      ["inv_freq", "original_inv_freq", "cos_cached", "sin_cached"].contains(words[words.count - 1])
    else { return nil }
    return .rotaryFrequencies
  }

  /// Whether some rule covers a name: of what comes before the name in order only the last can be its beginning.
  private func mayCover(_ tensor: String) -> Bool {
    guard let starts else { return true }
    var (low, high) = (0, starts.count)
    while low < high {
      let middle = (low + high) / 2
      if starts[middle] <= tensor { low = middle + 1 } else { high = middle }
    }
    return low > 0 && tensor.hasPrefix(starts[low - 1])
  }
}

/// The rule that leaves a tensor out of any model of the family, or nil.
func knownRule(_ tensor: TensorInfo, _ family: any ModelFamily) -> DropRule? {
  KnownRules(family).rule(for: tensor.name)
}

extension Sequence<JoinedWeight> {
  /// All tensors of a source that the weights are made of.
  func tensors(in source: some TensorSource) -> TensorSet {
    var tensors = TensorSet()
    for weight in self { weight.forEachTensor(in: source) { tensors.insert($0) } }
    return tensors
  }
}

/// Every tensor must be a part of a weight or fall under a named rule: the family's, one of `others`, the user's.
/// - Parameter used: tensors that are parts of weights.
/// - Throws: `ARCH_UNKNOWN_TENSOR`; `RequestError` usage where a pattern of the user's would leave out what carries numbers.
func droppedTensors(
  of source: any TensorSource, _ family: any ModelFamily, used: TensorSet, _ allowDrop: [String],
  others: (TensorInfo) throws -> DropRule?
) throws -> [(tensor: TensorInfo, rule: DropRule)] {
  let known = KnownRules(family)
  var dropped: [(tensor: TensorInfo, rule: DropRule)] = []
  for tensor in source.tensors where !used.contains(tensor) {
    let rule =
      try known.rule(for: tensor.name) ?? others(tensor)
      ?? (family.drafts.covers(tensor.name)
        ? DropRule.allowed(tensor.name, allowDrop) : UnknownName(tensor.name).allowed(by: allowDrop))
    guard let rule else {
      throw FormatError(
        .unknownTensor, file: tensor.fileName, subject: tensor.name, offset: tensor.offset,
        "(\(tensor.type) \(tensor.shape)) belongs to no weight of \(family.modelType)",
        help: UnknownName(tensor.name).help)
    }
    dropped.append((tensor, rule))
  }
  return dropped
}

/// A name that no rule knows: what a tensor of it looks like, and whether the user may leave it out unseen.
struct UnknownName {
  private let name: String
  private let words: [Substring]

  init(_ name: String) {
    self.name = name
    words = name.split(separator: ".")
  }

  /// Whether it belongs to a part beside the text model: a tower for pictures or sound, a projector, a draft.
  var isBeside: Bool {
    let first = words.first == "model" ? words.dropFirst().first : words.first
    guard words.count > 1, let first = first.map(String.init) else { return false }
    return RoleRules.besideWords.contains(first) || ["mtp", "eagle", "draft"].contains(first)
  }

  /// What of the model's numbers the name is that of, or nil where it says nothing.
  var carried: String? {
    if isBeside { return nil }
    let words = name.lowercased().split(separator: ".")
    let last = words.last ?? ""
    if UnknownName.isScale(last) || words.contains("quant_state") { return "scales" }
    if last.contains("zero") || ["biases", "offset", "zp", "shift"].contains(last) { return "zero points" }
    if last == "bias" || last.hasSuffix("_bias") { return "a bias" }
    if words.contains(where: { $0.hasPrefix("lora_") }) { return "an adapter" }
    if last.hasSuffix("g_idx") || last.hasSuffix("tid2eid") { return "a table of indices" }
    if last.contains("sink") || words.dropLast().last?.contains("sink") ?? false { return "sinks" }
    let modules = words.dropLast(words.count > 1 && (last == "weight" || last == "qweight") ? 1 : 0)
    let module = modules.last ?? ""
    let heads: [Substring] = ["output", "embed_out", "score", "proj_out", "classifier"]
    if heads.contains(module) || module.contains("head"), modules.count < 3 { return "an output head" }
    if UnknownName.projections.contains(module) { return "a layer's weights" }
    if module.hasPrefix("embed") || ["token_embd", "wte", "wpe", "tok_embeddings"].contains(module) {
      return "embeddings"
    }
    if module.contains("norm") || ["ln_1", "ln_2", "ln_f", "ln"].contains(module) { return "a norm" }
    if ["gate", "router", "linear", "ffn_gate_inp", "ffn_gate_inp_shexp", "shared_expert_gate"].contains(
      module),
      module != "linear" || modules.dropLast().last == "router"
    {
      return "a router"
    }
    return nil
  }

  /// Matrices that layers of many architectures have.
  private static let projections: Set<Substring> = [
    "q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "gate_proj", "up_proj", "down_proj", "gate_up_proj",
    "w1", "w2", "w3", "wq", "wk", "wv", "wo", "query_key_value", "c_attn", "c_proj", "c_fc", "attn_q",
    "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down",
  ]

  /// Whether the last word of a name, in lower case, is one that quantizers give to scales.
  private static func isScale(_ last: Substring) -> Bool {
    last.contains("scale") || last.hasSuffix("absmax") || last.hasPrefix("quant_")
      || last.contains("codebook")
      || ["scb", "smooth_factor", "weight_s", "quant_map"].contains(last)
  }

  /// What to do about it. Only a part beside the model is one to leave out.
  var help: String? {
    if isBeside {
      let part = words.first == "model" ? words.prefix(2).joined(separator: ".") : String(words[0])
      return "the text model does not compute with it: --allow-drop '\(part).*' leaves it out"
    }
    return carried.map {
      "it looks like \($0), and without it the numbers would be wrong: it may be of a newer version of the architecture; report it"
    }
  }

  /// The user's rule that leaves the tensor out, or nil. A pattern is not enough for what carries numbers.
  /// - Throws: `RequestError` usage.
  func allowed(by patterns: [String]) throws -> DropRule? {
    func rule(_ pattern: String) -> DropRule {
      DropRule(
        "allow-drop \(pattern)", "the user allows that tensors of this name are left out", prefixes: [])
    }
    if patterns.contains(name) { return rule(name) }
    guard let pattern = patterns.first(where: { matchesGlob($0, name) }) else { return nil }
    if let carried {
      throw RequestError(
        .usage,
        "--allow-drop '\(excerpt(pattern))' would leave out '\(excerpt(name, limit: 200))', which looks like \(carried): the numbers would be wrong",
        help: "to insist, spell the whole name out, without * and ?")
    }
    return rule(pattern)
  }
}

/// Weights whose tensors are not there, and tensors there that no weight has.
struct AbsentNames {
  /// Tensors that should be there; not empty.
  var absent: [String]
  /// How many there should be.
  var asked: Int
  /// What they are.
  var what: String
  /// Whether all that is absent is the output head of a model whose embeddings are not tied.
  var isHeadAlone: Bool
  /// Tensors that belong to nothing.
  var unknown: [String]
  /// All tensors.
  var all: [String]
  var family: String

  /// The refusal.
  func error(_ file: String) -> FormatError {
    let parts = Set(absent.map { AbsentNames.module($0) })
    // Scales of a weight that is absent are as little unknown as the weight.
    let strange = unknown.filter { !AbsentNames.isCompanion($0, parts) }
    guard strange.isEmpty else { return otherNames(strange, file) }
    if isHeadAlone {
      return FormatError(
        .incomplete, file: file, subject: absent[0],
        "is missing, and tie_word_embeddings does not say that the embeddings take its place",
        help:
          "download the shard that holds it; where the model has no head of its own, its config.json must say \"tie_word_embeddings\": true"
      )
    }
    let more =
      absent.count > 1 ? ", and \(absent.count - 1) more of the \(asked) \(what)" : " of the \(asked) \(what)"
    return FormatError(.incomplete, file: file, subject: absent[0], "is missing\(more)")
  }

  private func otherNames(_ strange: [String], _ file: String) -> FormatError {
    let lead =
      absent.count == 1
      ? "of the \(asked) \(what) is missing"
      : "and \(absent.count - 1) more of the \(asked) \(what) are missing (\(AbsentNames.list(absent)))"
    return FormatError(
      .otherNames, file: file, subject: absent[0],
      "\(lead), but "
        + "\(strange.count) tensor\(strange.count == 1 ? " is" : "s are") there that \(family) does not know (\(AbsentNames.list(strange)))",
      help: help(strange))
  }

  /// Spellings that are recognized, though not read.
  private func help(_ strange: [String]) -> String? {
    if strange.contains(where: { $0.contains(".switch_mlp.") || $0.contains(".switch_glu.") }) {
      return "these are MLX's names for stacked experts: use the checkpoint that it was made from"
    }
    let prefixes = [
      "language_model.", "model.language_model.", "model.text_model.", "text_model.", "module.",
      "base_model.model.",
    ]
    if let prefix = prefixes.first(where: { prefix in strange.allSatisfy { $0.hasPrefix(prefix) } }) {
      return
        "'\(prefix)' stands before the names, as in a model around this one: rename the tensors, or use a checkpoint of the text model alone"
    }
    return nil
  }

  /// The first few.
  private static func list(_ names: [String]) -> String {
    names.prefix(3).map { "'\(excerpt($0))'" }.joined(separator: ", ") + (names.count > 3 ? ", …" : "")
  }

  private static func module(_ tensor: String) -> String {
    tensor.hasSuffix(".weight") ? String(tensor.dropLast(".weight".count)) : tensor
  }

  /// Whether a tensor lies beside the codes of one of the modules.
  private static func isCompanion(_ name: String, _ modules: Set<String>) -> Bool {
    if name.hasSuffix("_scales"), modules.contains(String(name.dropLast("_scales".count))) { return true }
    guard let dot = name.lastIndex(of: "."), modules.contains(String(name[..<dot])) else { return false }
    let last = name[name.index(after: dot)...]
    return last.contains("scale") || last.contains("zero") || last.hasSuffix("g_idx")
      || last == "weight_shape"
  }
}
