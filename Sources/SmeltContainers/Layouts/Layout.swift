// One published layout: how several tensors of a checkpoint (codes here, scales there) make one weight.

package import SmeltTensors

/// One way to publish weights.
package protocol Layout: Sendable {
  /// What Formats/layouts.md calls it.
  var name: String { get }

  /// The tensor with the codes of a weight that is kept this way, or nil when it is not. Looks at names, dtypes and
  /// configuration, never at sizes or data.
  /// - Parameter plain: the tensor of the place's own name, if there is one: found once for all layouts.
  func codes(
    of place: Spelling, plain: TensorInfo?, in source: any TensorSource, _ config: QuantizationConfig
  ) -> TensorInfo?

  /// The weight whose codes `codes(of:plain:in:_:)` found. Checks names, dtypes and dimensions of all its tensors and reads
  /// none of their data.
  /// - Throws: `CFG_SHAPE`, `Q_SCALE_MISSING`, `Q_SCALE_SHAPE`, `Q_PACK`, `Q_CONFIG` with the tensor, found and
  ///   expected; `RequestError` unsupported for well-formed variants that are not read.
  func join(_ context: JoinContext) throws -> JoinedWeight

  /// The tensors that a weight becomes, codes first: what `join` makes one weight of again; nil where this layout does not store
  /// such a weight.
  func declare(_ weight: DeclaredWeight) -> [DeclaredTensor]?

  /// The dimensions of the numbers behind some codes, where no family says them: of a stack, those of one of its matrices.
  /// - Returns: nil where neither headers nor a tensor of dimensions tell.
  func shape(of codes: TensorInfo, module: String, in source: any TensorSource) -> Shape?
}

extension Layout {
  /// It is read, never written.
  package func declare(_ weight: DeclaredWeight) -> [DeclaredTensor]? { nil }

  /// A code for each number, in its place.
  package func shape(of codes: TensorInfo, module: String, in source: any TensorSource) -> Shape? {
    codes.shape
  }
}

extension Shape {
  /// The same with so many times the columns: several codes share an element.
  func widened(_ factor: Int) -> Shape { Shape(dimensions.dropLast() + [columns * factor]) }
}
