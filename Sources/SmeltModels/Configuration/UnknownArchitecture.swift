// Weights without a forward pass: an architecture that no family knows, and what a known one carries along. Both are tables made from
// the tensors that are there.

package import SmeltStorage
package import SmeltTensors

extension WeightSpec {
  /// A weight that no family names, under its source's name.
  /// - Parameters:
  ///   - name: the source's name, `model.visual.patch_embed.proj.weight`; of a stack's expert with its number.
  ///   - shape: the dimensions of its numbers.
  ///   - dialects: how many dialects the family has; all of them spell it alike.
  ///   - hasLayer: whether the number of a layer in its name is one of the pass's.
  package init(
    carried name: WeightName, _ shape: Shape, _ place: Spelling, dialects: Int = 1, hasLayer: Bool = true
  ) {
    let found = RoleRules(name.base, shape)
    self.init(
      name, shape, found.role, layer: hasLayer ? found.layer : nil,
      spellings: [Spelling](repeating: place, count: max(1, dialects)))
    isCarried = true
    hasSourceName = true
  }

  /// The same, marked as a part of a block that drafts tokens where its name says so.
  package func marked(by names: DraftNames) -> WeightSpec {
    var spec = self
    spec.isDraft = names.covers(name.base)
    return spec
  }
}

/// An architecture that no family knows. It has weights by name, and nothing that runs.
package struct UnknownArchitecture: ModelFamily {
  /// None: it is made for whatever has no family.
  package static let modelTypes: [String] = []
  /// What stands for the `model_type` where there is no config.json.
  package static let nameless = "unknown"
  /// What config.json or a GGUF file calls it.
  package let modelType: String
  /// One: the names of its container.
  package let dialects: [String]
  /// All weights, in the order of the source.
  package let weights: [WeightSpec]
  /// What names, shapes and configuration say.
  package let dimensions: ModelDimensions
  /// Every value of the configuration.
  package let settings: [FamilySetting]
  /// What a family that knows the `model_type` does not compute; nil where no family knows it.
  package let refusal: String?
  /// None: what is there is kept.
  package var dropRules: [DropRule] { [] }
  /// No.
  package var hasForwardPass: Bool { false }

  /// An architecture from its tensors.
  /// - Parameters:
  ///   - config: the text of config.json as JSON, or an empty object.
  ///   - dialect: whose names the weights have.
  ///   - refusal: what a family that knows the `model_type` does not compute.
  package init(
    _ modelType: String, config: JSON, dialect: String, _ weights: [WeightSpec], refusal: String? = nil
  ) {
    self.modelType = modelType
    self.refusal = refusal
    self.weights = weights
    dialects = [dialect]
    let text = TextConfig.keys.lazy.compactMap { config[$0] }.first { $0.object != nil } ?? config
    func number(_ keys: String...) -> Int? {
      keys.lazy.compactMap { text[$0]?.integer ?? config[$0]?.integer }.first { (0..<1 << 40).contains($0) }
    }
    let embedding = weights.first { $0.role == .embedding && $0.shape.rank == 2 }?.shape
    let layers = (weights.compactMap(\.layer).max() ?? -1) + 1
    let experts = Dictionary(grouping: weights.filter { $0.name.expert != nil }, by: \.name.base)
    dimensions = ModelDimensions(
      layers: layers,
      experts: number("num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts")
        ?? experts.values.map(\.count).max() ?? 0,
      expertsPerToken: number("num_experts_per_tok", "num_experts_per_token", "moe_topk", "top_k_experts")
        ?? 0,
      hidden: number("hidden_size", "d_model", "n_embd") ?? embedding?.columns ?? 0, streams: 1,
      vocabulary: number("vocab_size") ?? embedding?.rows ?? 0)
    settings = FamilySetting.leaves(of: config)
  }

  /// Not made from a configuration alone.
  /// - Throws: always.
  package init(config: JSON, file: String) throws {
    throw RequestError(.unsupported, "an architecture without a family is made from its tensors")
  }

  /// What there is to say when something wants to run it.
  package var noForwardPass: RequestError {
    let name = "'\(excerpt(modelType))'"
    var problem = "the architecture \(name) has no forward pass here"
    if modelType == UnknownArchitecture.nameless {
      problem = "there is no config.json to say what is to be computed, and so no forward pass"
    }
    if let refusal { problem = "this variant of \(name) has no forward pass here: \(refusal)" }
    return RequestError(
      .unsupported, problem,
      help:
        "inspect, plan, check, diff, convert, quantize without data, and verify without text work; `smelt formats` lists what runs"
    )
  }

  /// - Throws: unsupported.
  package func embed(_ batch: TokenBatch, _ weights: some Weights) throws -> Matrix { throw noForwardPass }

  /// - Throws: unsupported.
  package func layer(
    _ index: Int, _ x: inout Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass
  )
    throws -> Routing?
  { throw noForwardPass }

  /// - Throws: unsupported.
  package func expert(_ expert: Int, layer: Int, _ x: Matrix, _ weights: some Weights, _ pass: Pass) throws
    -> Matrix
  { throw noForwardPass }

  /// - Throws: unsupported.
  package func logits(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix {
    throw noForwardPass
  }
}

/// A family whose checkpoint holds more than the family computes with: towers for pictures, draft layers. They stand behind the
/// family's own weights, and the pass never asks for them.
package struct CarryingFamily: ModelFamily {
  /// None: it is made around another family.
  package static let modelTypes: [String] = []
  /// The family that runs.
  package let core: any ModelFamily
  /// The family's weights, then what is carried.
  package let weights: [WeightSpec]
  /// How a wrapper spells the family's tensors; nil where nothing is wrapped.
  package let wrapper: WrapperForm?
  /// How many weights are carried.
  package let carriedCount: Int
  /// How many blocks that draft tokens are there with all weights of the family's table.
  package let draftBlocks: Int

  /// A family and what it carries.
  /// - Parameters:
  ///   - wrapper: how the checkpoint spells the family's tensors, where a wrapper is around it.
  ///   - draftBlocks: how many blocks of the family's table of drafts are among what is carried.
  package init(
    _ core: any ModelFamily, wrapper: WrapperForm? = nil, carrying carried: [WeightSpec], draftBlocks: Int = 0
  ) {
    self.core = core
    self.wrapper = wrapper
    self.draftBlocks = draftBlocks
    carriedCount = carried.count
    weights = (wrapper.map { form in core.weights.map { $0.spelled(form) } } ?? core.weights) + carried
  }

  /// Not made from a configuration alone.
  /// - Throws: always.
  package init(config: JSON, file: String) throws {
    throw RequestError(.unsupported, "a family that carries more is made from another one")
  }

  /// The core's.
  package var modelType: String { core.modelType }
  /// The core's.
  package var hasForwardPass: Bool { core.hasForwardPass }
  /// The core's.
  package var dimensions: ModelDimensions { core.dimensions }
  /// The core's.
  package var settings: [FamilySetting] { core.settings }
  /// The core's.
  package var dialects: [String] { core.dialects }
  /// The core's.
  package var writtenDialects: [String] { core.writtenDialects }
  /// The core's.
  package var dropRules: [DropRule] { core.dropRules }
  /// The core's.
  package var drafts: DraftBlocks { core.drafts }

  /// As the core.
  package func canBegin(at layer: Int) -> Bool { core.canBegin(at: layer) }

  /// The core's.
  package func embed(_ batch: TokenBatch, _ weights: some Weights) throws -> Matrix {
    try core.embed(batch, weights)
  }

  /// The core's.
  package func layer(
    _ index: Int, _ x: inout Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass
  )
    throws -> Routing?
  { try core.layer(index, &x, batch, weights, pass) }

  /// The core's.
  package func expert(_ expert: Int, layer: Int, _ x: Matrix, _ weights: some Weights, _ pass: Pass) throws
    -> Matrix
  { try core.expert(expert, layer: layer, x, weights, pass) }

  /// The core's.
  package func logits(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix {
    try core.logits(x, weights, pass)
  }

  /// The blocks of the core's table that are there, where the core runs them.
  package var runningDrafts: [DraftBlock] {
    guard drafts.runs, draftBlocks > 0 else { return [] }
    let names = Set(weights.filter(\.isDraft).map(\.name))
    return (0..<draftBlocks).map { DraftBlock($0, layer: drafts.first + $0, among: names) }
  }

  /// The core's.
  package func draftInput(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix {
    try core.draftInput(x, weights, pass)
  }

  /// The core's.
  package func draft(
    _ block: DraftBlock, _ x: Matrix, _ next: TokenBatch, _ weights: some Weights, _ pass: Pass
  ) throws -> Matrix { try core.draft(block, x, next, weights, pass) }

  /// The core's.
  package func draftLogits(_ block: DraftBlock, _ x: Matrix, _ weights: some Weights, _ pass: Pass) throws
    -> Matrix
  { try core.draftLogits(block, x, weights, pass) }
}
