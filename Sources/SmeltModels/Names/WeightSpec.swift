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

/// One weight a family needs. Copies share one object until one of them changes: tables of a hundred thousand are passed around.
package struct WeightSpec: Sendable {
  /// What it reads: what its name says, worked out when somebody asks, or what the family says.
  private enum Input: Sendable {
    case usual
    indirect case said(WeightName?)
  }

  private final class Fields: @unchecked Sendable {
    // SAFETY: changed only by `set`, which makes a copy unless nobody else holds the object.
    let name: WeightName
    let shape: Shape
    let role: Role
    let layer: Int?
    let inputGroups: Int
    var spellings: [Spelling]
    var input: Input
    var offset: Float = 0
    var isClampedAfter = false
    var isCarried = false
    var isDraft = false
    var isOptional = false
    var hasSourceName = false

    init(
      _ name: WeightName, _ shape: Shape, _ role: Role, _ layer: Int?, _ inputGroups: Int,
      _ spellings: [Spelling], _ input: Input
    ) {
      (self.name, self.shape, self.role, self.layer) = (name, shape, role, layer)
      (self.inputGroups, self.spellings, self.input) = (inputGroups, spellings, input)
    }

    convenience init(_ other: Fields) {
      self.init(
        other.name, other.shape, other.role, other.layer, other.inputGroups, other.spellings, other.input)
      (offset, isClampedAfter, isCarried) = (other.offset, other.isClampedAfter, other.isCarried)
      (isDraft, isOptional, hasSourceName) = (other.isDraft, other.isOptional, other.hasSourceName)
    }
  }

  private var fields: Fields

  private mutating func set<Value>(_ key: ReferenceWritableKeyPath<Fields, Value>, _ value: Value) {
    if !isKnownUniquelyReferenced(&fields) { fields = Fields(fields) }
    fields[keyPath: key] = value
  }

  /// The canonical name.
  package var name: WeightName { fields.name }
  /// The routed expert it belongs to, if any.
  package var expert: Int? { fields.name.expert }
  /// The dimensions of the numbers, output channels first.
  package var shape: Shape { fields.shape }
  /// What it does.
  package var role: Role { fields.role }
  /// The layer it belongs to, if any.
  package var layer: Int? { fields.layer }
  /// How many row groups see inputs of their own (grouped projections); 1 for ordinary matrices.
  package var inputGroups: Int { fields.inputGroups }
  /// Where each dialect keeps it, in the order of the family's `dialects`.
  package internal(set) var spellings: [Spelling] {
    get { fields.spellings }
    set { set(\.spellings, newValue) }
  }
  /// The weight whose output it reads: a norm's or a matrix's; nil where that is not one weight's.
  package var input: WeightName? {
    get { if case .said(let input) = fields.input { input } else { fields.name.usualInput } }
    set { set(\.input, .said(newValue)) }
  }
  /// Whether what it gives is clamped or offset before the next weight reads it, so that its channels cannot be scaled.
  package var isClampedAfter: Bool {
    get { fields.isClampedAfter }
    set { set(\.isClampedAfter, newValue) }
  }
  /// What the pass adds to its numbers before it uses them: 1 for norms whose scales are stored as distances from 1.
  package var offset: Float {
    get { fields.offset }
    set { set(\.offset, newValue) }
  }
  /// Whether no forward pass here computes with it: it is carried from container to container.
  package var isCarried: Bool {
    get { fields.isCarried }
    set { set(\.isCarried, newValue) }
  }
  /// Whether it belongs to a block that drafts tokens (multi-token prediction).
  package var isDraft: Bool {
    get { fields.isDraft }
    set { set(\.isDraft, newValue) }
  }
  /// Whether a source may lack it.
  package var isOptional: Bool {
    get { fields.isOptional }
    set { set(\.isOptional, newValue) }
  }
  /// Whether it stands under its source's own name, because no family has one for it.
  package var hasSourceName: Bool {
    get { fields.hasSourceName }
    set { set(\.hasSourceName, newValue) }
  }

  /// A row of the family's table.
  package init(
    _ name: WeightName, _ shape: Shape, _ role: Role, layer: Int?, inputGroups: Int = 1, spellings: [Spelling]
  ) {
    fields = Fields(name, shape, role, layer, inputGroups, spellings, .usual)
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
