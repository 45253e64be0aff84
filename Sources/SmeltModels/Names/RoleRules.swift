// Roles of weights that no family names: from the words of a tensor's name and its dimensions. Formats/roles.md lists the rules in
// their order; the first that applies decides.

package import SmeltTensors

/// What a tensor's name and shape say of its place in a network.
package struct RoleRules: Sendable {
  /// What it does.
  package let role: Role
  /// The layer, where a number in the name says so.
  package let layer: Int?
  /// The routed expert, where each has a tensor of its own.
  package let expert: Int?
  /// The rule that decided, as Formats/roles.md names it.
  package let rule: String

  /// Reads a name, `model.layers.3.mlp.experts.7.up_proj.weight` or `blk.3.ffn_up_exps.weight`.
  /// - Parameter shape: the dimensions, outermost first.
  package init(_ name: String, _ shape: Shape) {
    let words = name.lowercased().split(separator: ".").map(String.init)
    layer = RoleRules.number(in: words, after: RoleRules.layerWords)
    expert = RoleRules.number(in: words, after: ["experts", "expert"])
    (role, rule) = RoleRules.find(words, shape)
  }

  private static let layerWords: Set<String> = [
    "layers", "layer", "blk", "block", "blocks", "h", "hidden_layers", "decoder_layers",
  ]

  /// The number that follows the first of some words.
  private static func number(in words: [String], after parents: Set<String>) -> Int? {
    for (place, word) in words.enumerated().dropLast() where parents.contains(word) {
      if let number = Int(words[place + 1]), number >= 0, words[place + 1] == String(number) { return number }
    }
    return nil
  }

  /// Parts of a checkpoint beside the text model: towers for pictures and sound, projectors between them and the text model.
  package static let besideWords: Set<String> = [
    "visual", "vision_tower", "vision_model", "vision_encoder", "vision_embed_tokens", "vit", "image_newline",
    "audio_tower", "audio_model", "audio_encoder", "speech_encoder", "multi_modal_projector", "mm_projector",
    "vision_projection", "visual_tokenizer", "embed_vision", "embed_audio", "connector", "talker",
    "token2wav",
    "code2wav", "v", "a", "mm", "image_encoder", "vision_projector", "audio_projector", "patch_merger",
    "patch_merge_mlp",
  ]

  private static func find(_ words: [String], _ shape: Shape) -> (Role, String) {
    let first = words.first == "model" ? words.dropFirst().first : words.first
    if words.count > 1, let first, besideWords.contains(first) { return (.other, "beside the text model") }
    let last = words.last ?? ""
    let path = words.dropLast(["weight", "qweight", "bias"].contains(last) && words.count > 1 ? 1 : 0)
    let module = path.last ?? ""
    let parents = path.dropLast()
    func has(_ parts: String...) -> Bool { path.contains { word in parts.contains { word.holds($0) } } }

    if last == "e_score_correction_bias" || module == "e_score_correction_bias" || module == "exp_probs_b" {
      return (.selectionBias, "selection bias")
    }
    if last == "bias" || last.hasSuffix("_bias"), !has("relative_attention") { return (.bias, "bias") }
    if has("relative_attention", "inv_freq", "rope_freqs", "position_ids") { return (.other, "no rule") }
    if path.contains(where: { $0.hasPrefix("hc_") || $0 == "hyper_connection" }) {
      return (.hyperConnection, "hyper-connection")
    }
    if has("conv"), shape.rank >= 2 { return (.convolution, "convolution") }
    if isNorm(module), shape.rank < 2 { return (.norm, "norm") }
    if isStateSpace(path, module), !isExpert(path) || shape.rank < 2 { return (.stateSpace, "state space") }
    guard shape.rank >= 2 else {
      return isNorm(module) ? (.norm, "norm") : (.other, "no rule")
    }
    if module.hasPrefix("embed_tokens") || embeddings.contains(module) { return (.embedding, "embedding") }
    if heads.contains(module), parents.count < 2 { return (.outputHead, "output head") }
    if isRouter(module, parents) { return (.router, "router") }
    if isExpert(path) { return (matrix(module, .routedGate, .routedUp, .routedDown), "routed expert") }
    if path.contains(where: { $0.holds("shared_expert") || $0.hasSuffix("shexp") || $0 == "shared_mlp" }) {
      return (matrix(module, .sharedGate, .sharedUp, .sharedDown), "shared expert")
    }
    // Matrices that some architectures keep as [input, output].
    if ["c_attn", "c_proj", "c_fc"].contains(module) { return (.other, "no rule") }
    if shape.rank == 2,
      projections.contains(module)
        || path.contains(where: { $0.holds("attn") || $0.holds("attention") })
    {
      return (.attention, "attention")
    }
    if path.contains(where: { word in feedForwards.contains { word.holds($0) } }), shape.rank == 2 {
      return (matrix(module, .denseGate, .denseUp, .denseDown), "feed-forward")
    }
    if module == "dense", shape.rank == 2, path.contains("layer") {
      if parents.last == "intermediate" { return (.denseUp, "feed-forward") }
      if parents.last == "output" { return (.denseDown, "feed-forward") }
    }
    return (.other, "no rule")
  }

  private static let embeddings: Set<String> = [
    "wte", "token_embd", "word_embeddings", "tok_embeddings", "shared", "embed_in", "embeddings", "wpe",
    "position_embd", "per_layer_token_embd", "embed_positions",
  ]
  private static let heads: Set<String> = ["lm_head", "output", "embed_out", "head", "score", "classifier"]
  private static let feedForwards = ["mlp", "feed_forward", "ffn", "densereludense", "fc1", "fc2"]

  private static func isNorm(_ module: String) -> Bool {
    module.holds("norm") || module.hasPrefix("ln") || module.hasSuffix("_ln")
      || ["enorm", "hnorm"].contains(module)
  }

  /// Matrices of attention wherever they stand: some hybrids call the place of every kind of layer `mixer`.
  private static let projections: Set<String> = ["q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj"]

  private static func isStateSpace(_ path: some Sequence<String>, _ module: String) -> Bool {
    path.contains { word in
      word.hasPrefix("ssm")
        || ["linear_attn", "mamba", "a_log", "dt_bias", "mixer", "delta", "ssm"].contains(word)
    }
      && !path.contains {
        ["experts", "shared_experts", "gate_proj"].contains($0)
          || $0 == "mixer" && (module == "gate" || projections.contains(module))
      }
  }

  private static func isExpert(_ path: some Sequence<String>) -> Bool {
    path.contains { $0 == "experts" || $0 == "expert" || $0.hasSuffix("_exps") }
  }

  private static func isRouter(_ module: String, _ parents: some Collection<String>) -> Bool {
    if ["router", "ffn_gate_inp", "shared_expert_gate", "ffn_gate_inp_shexp"].contains(module) {
      return true
    }
    let parent = Array(parents).last ?? ""
    if parent == "router" || parent == "gate" && module == "wg" { return true }
    return ["gate", "wg"].contains(module)
      && (["mlp", "block_sparse_moe", "feed_forward", "moe", "ffn", "mixer"].contains(parent)
        || parent.holds("moe"))
  }

  /// Gate, up or down by the usual words; a matrix of gate and up rows together counts as up.
  private static func matrix(_ module: String, _ gate: Role, _ up: Role, _ down: Role) -> Role {
    if module.holds("gate_up") || module.holds("w13") { return up }
    if module.holds("down")
      || ["w2", "fc2", "wo", "output_linear", "dense_4h_to_h", "c_proj"].contains(module)
    {
      return down
    }
    if module.holds("gate") || ["w1", "wi_0"].contains(module) { return gate }
    return up
  }
}

extension String {
  /// Whether a text is in it, byte by byte: names are short, and the standard library's search makes a table of the text first.
  fileprivate func holds(_ part: String) -> Bool {
    var (text, part) = (self, part)
    return text.withUTF8 { text in
      part.withUTF8 { part in
        guard part.count <= text.count else { return false }
        return (0...text.count - part.count).contains { start in
          part.indices.allSatisfy { text[start + $0] == part[$0] }
        }
      }
    }
  }
}
