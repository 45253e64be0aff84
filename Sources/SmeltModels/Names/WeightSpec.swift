// What a family says about its weights: canonical name, shape, role, and how each dialect spells the tensor.

package import SmeltTensors

/// A weight's canonical name: GGUF's spelling, and for a routed expert the stacked name and the expert's number.
package struct WeightName: Hashable, Sendable, CustomStringConvertible {
  /// For example `blk.7.ffn_gate_exps.weight`.
  package let base: String
  /// The routed expert, if the weight belongs to one.
  package let expert: Int?

  /// A name from its pieces.
  package init(_ base: String, expert: Int? = nil) {
    self.base = base
    self.expert = expert
  }

  /// A name from its text, `blk.7.ffn_gate_exps.weight#42`. Only digits as `description` writes them are an expert's
  /// number: whatever the text, the name's description is that text again.
  package init(parsing text: String) {
    if let hash = text.lastIndex(of: "#"), let expert = Int(text[text.index(after: hash)...]), expert >= 0,
      String(expert) == text[text.index(after: hash)...]
    {
      self.init(String(text[..<hash]), expert: expert)
    } else {
      self.init(text)
    }
  }

  /// The text.
  package var description: String { expert.map { "\(base)#\($0)" } ?? base }
}

/// What a weight does in the network. Recipes choose schemes by it.
package enum Role: String, Sendable, Hashable, CaseIterable {
  /// Token embeddings.
  case embedding
  /// The output head.
  case outputHead = "output_head"
  /// Scales of a normalization.
  case norm
  /// Added, never multiplied: biases of linear layers, learned position biases.
  case bias
  /// Scores experts.
  case router
  /// Added to router scores to choose, never to weigh.
  case selectionBias = "selection_bias"
  /// Experts by token id.
  case hashTable = "hash_table"
  /// Learned logits of attention sinks.
  case sink
  /// Hyper-connection mappings, bases and scales.
  case hyperConnection = "hyper_connection"
  /// Pools keys over windows; the indexer's compressor and its head weights included, since they steer selection.
  case compressor
  /// The indexer's projections of queries and, where tokens themselves are scored, of keys.
  case indexer
  /// Attention projections.
  case attention
  /// Gate matrix of a routed expert.
  case routedGate = "routed_gate"
  /// Up matrix of a routed expert.
  case routedUp = "routed_up"
  /// Down matrix of a routed expert.
  case routedDown = "routed_down"
  /// Gate matrix of a shared expert.
  case sharedGate = "shared_gate"
  /// Up matrix of a shared expert.
  case sharedUp = "shared_up"
  /// Down matrix of a shared expert.
  case sharedDown = "shared_down"
  /// Gate matrix of a layer without experts.
  case denseGate = "dense_gate"
  /// Up matrix of a layer without experts.
  case denseUp = "dense_up"
  /// Down matrix of a layer without experts.
  case denseDown = "dense_down"
  /// Projections, decays and states of a state-space or linear-attention layer.
  case stateSpace = "state_space"
  /// Kernels of a convolution.
  case convolution
  /// What no rule knows, and whatever takes no part in the text model.
  case other

  /// Whether a lossy scheme applies to the role unless a recipe says otherwise: only the big matrices inside layers.
  package var isQuantizedByDefault: Bool {
    switch self {
    case .indexer, .attention, .routedGate, .routedUp, .routedDown, .sharedGate, .sharedUp, .sharedDown,
      .denseGate, .denseUp, .denseDown:
      true
    default: false
    }
  }

  /// Whether the weight belongs to a routed expert.
  package var isRouted: Bool { self == .routedGate || self == .routedUp || self == .routedDown }
}

/// One weight a family needs.
package struct WeightSpec: Sendable {
  /// The canonical name.
  package let name: WeightName
  /// The dimensions of the numbers, output channels first.
  package let shape: Shape
  /// What it does.
  package let role: Role
  /// The layer it belongs to, if any.
  package let layer: Int?
  /// How many row groups see inputs of their own (grouped projections); 1 for ordinary matrices.
  package let inputGroups: Int
  /// Where each dialect keeps it, in the order of the family's `dialects`.
  package internal(set) var spellings: [Spelling]
  /// The weight whose output it reads: a norm's or a matrix's; nil where that is not one weight's.
  package var input: WeightName?
  /// Whether what it gives is clamped or offset before the next weight reads it, so that its channels cannot be scaled.
  package var isClampedAfter = false
  /// What the pass adds to its numbers before it uses them: 1 for norms whose scales are stored as distances from 1.
  package var offset: Float = 0
  /// Whether no forward pass here computes with it: it is carried from container to container.
  package var isCarried = false
  /// Whether it belongs to a block that drafts tokens (multi-token prediction).
  package var isDraft = false
  /// Whether a source may lack it.
  package var isOptional = false
  /// Whether it stands under its source's own name, because no family has one for it.
  package var hasSourceName = false

  /// A row of the family's table.
  package init(
    _ name: WeightName, _ shape: Shape, _ role: Role, layer: Int?, inputGroups: Int = 1, spellings: [Spelling]
  ) {
    self.name = name
    self.shape = shape
    self.role = role
    self.layer = layer
    self.inputGroups = inputGroups
    self.spellings = spellings
    input = name.usualInput
  }

  /// The same weight, its dialects in the opposite order.
  var withSpellingsReversed: WeightSpec {
    var spec = self
    spec.spellings.reverse()
    return spec
  }

  /// The same weight under other tensor names.
  func renamed(_ name: (String) -> String) -> WeightSpec {
    var spec = self
    spec.spellings = spellings.map { $0.renamed(name($0.tensor)) }
    return spec
  }

  /// The same of an expert's up, whose output the family clamps or offsets before down reads it.
  var clampedAfterUp: WeightSpec {
    var spec = self
    if [.routedUp, .sharedUp, .denseUp].contains(role) { spec.isClampedAfter = true }
    return spec
  }

  /// What tells the inputs of weights apart: gate and up of an expert see the same ones.
  package var inputKey: WeightName {
    switch role {
    case .routedGate, .routedUp, .sharedGate, .sharedUp, .denseGate, .denseUp:
      input.map { WeightName("\($0.base) \(role.isRouted ? "routed" : "")", expert: name.expert) } ?? name
    default: name
    }
  }
}

extension WeightSpec {
  /// Whether the pass multiplies activations by it as a matrix, so that calibration sees its input channels.
  package var isMultiplied: Bool {
    guard shape.rank >= 2, !isCarried else { return false }
    switch role {
    case .embedding, .norm, .bias, .selectionBias, .hashTable, .sink, .convolution: return false
    default: return true
    }
  }
}

/// A named reason for leaving tensors out of the forward pass and of the result.
package struct DropRule: Sendable {
  /// The rule's name, as the ledger gives it.
  package let name: String
  /// Why.
  package let reason: String
  /// The tensors it covers: all names that start with one of these.
  package let prefixes: [String]

  /// A rule.
  package init(_ name: String, _ reason: String, prefixes: [String]) {
    self.name = name
    self.reason = reason
    self.prefixes = prefixes
  }

  /// Whether the rule covers a tensor.
  package func covers(_ tensor: String) -> Bool { prefixes.contains { tensor.hasPrefix($0) } }
}
