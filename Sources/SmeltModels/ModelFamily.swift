// The seam between architectures and everything else. A family knows names, shapes and arithmetic; it never opens a
// file. Running, calibrating and verifying are one forward pass with different `Weights`.

package import SmeltStorage
package import SmeltTensors

/// One architecture: configuration, weights by name, forward pass.
package protocol ModelFamily: Sendable {
  /// The `model_type` values of config.json that mean this family.
  static var modelTypes: [String] { get }

  /// Reads the configuration, in any of the family's dialects.
  /// - Throws: `CFG_VALUE` for missing or impossible values; `RequestError` unsupported for well-formed variants that
  ///   the family does not compute.
  init(config: JSON, file: String) throws

  /// The `model_type` as published.
  var modelType: String { get }

  /// Whether there is a forward pass; without one the weights are converted, checked and compared, and nothing runs.
  var hasForwardPass: Bool { get }

  /// The family without what it only carries along: itself for most.
  var core: any ModelFamily { get }

  /// Sizes for reports and estimates.
  var dimensions: ModelDimensions { get }

  /// What the pass takes from the configuration, whatever words the configuration has for it.
  var settings: [FamilySetting] { get }

  /// The dialects' names, in the order of each spec's spellings.
  var dialects: [String] { get }

  /// Those of the dialects that are written; sources of the others become the first.
  var writtenDialects: [String] { get }

  /// Every weight the pass needs, layer by layer, the matrices of one expert side by side.
  var weights: [WeightSpec] { get }

  /// Tensors that are known and left out, by named rules.
  var dropRules: [DropRule] { get }

  /// Blocks behind the last layer that draft tokens, which the pass does not run.
  var drafts: DraftBlocks { get }

  /// Whether a layer can run with the residual streams alone. One that needs what an earlier layer left beside them cannot be the
  /// first of a walk that goes on from saved streams.
  func canBegin(at layer: Int) -> Bool

  /// Embeds the tokens: [tokens, streams × hidden].
  func embed(_ batch: TokenBatch, _ weights: some Weights) throws -> Matrix

  /// Runs one layer over all tokens of all sequences, in place. With a state in the pass, the batch holds the next tokens
  /// of one sequence, and the layer's keys are taken from and added to the state.
  /// - Returns: the routing, or nil for a layer without experts.
  func layer(_ index: Int, _ x: inout Matrix, _ batch: TokenBatch, _ weights: some Weights, _ pass: Pass)
    throws
    -> Routing?

  /// One routed expert's output for rows of its layer's router input, not weighed by the router: [rows, hidden], or the width that the
  /// layer's experts work in. For tokens that the router did not send there.
  func expert(_ expert: Int, layer: Int, _ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix

  /// Logits of the given rows of the last layer's output: [rows, vocabulary].
  func logits(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix

  /// The blocks that draft tokens and run here, in order; none where a source holds none, or where the family's do not run.
  var runningDrafts: [DraftBlock] { get }

  /// The last layer's output as the first block that drafts tokens takes it.
  func draftInput(_ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix

  /// Runs a block that drafts tokens over all tokens of all sequences; with a state in the pass, over the next tokens of one sequence.
  /// - Parameters:
  ///   - x: what `draftInput` or the block before gave for each token.
  ///   - next: the token that follows each of them, sequence by sequence.
  /// - Returns: what the following block and `draftLogits` take.
  func draft(_ block: DraftBlock, _ x: Matrix, _ next: TokenBatch, _ weights: some Weights, _ pass: Pass)
    throws -> Matrix

  /// A block's logits of the token after the next, [rows, vocabulary], for rows of what `draft` gave.
  func draftLogits(_ block: DraftBlock, _ x: Matrix, _ weights: some Weights, _ pass: Pass) throws -> Matrix
}

extension ModelFamily {
  /// All dialects are written.
  package var writtenDialects: [String] { dialects }

  /// The `model_type` as published.
  package var modelType: String { Self.modelTypes[0] }

  /// None.
  package var drafts: DraftBlocks { .none }

  /// Every layer can.
  package func canBegin(at layer: Int) -> Bool { true }

  /// Families run.
  package var hasForwardPass: Bool { true }

  /// Itself.
  package var core: any ModelFamily { self }

  /// Whether there is an output head beside the embeddings.
  package var hasHead: Bool { weights.contains { $0.role == .outputHead } }
}
