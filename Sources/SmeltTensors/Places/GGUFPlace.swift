// Where a weight lies among the tensors of a GGUF model: llama.cpp's loader wants some weights stacked, some with their rows
// in another order, and one cut in two. Families say it, containers find the bytes behind it.

package import SmeltStorage

/// Where a GGUF model keeps a weight.
package enum GGUFPlace: Sendable, Hashable {
  /// The weight is the tensor.
  case whole(String)
  /// The weight is one of `count` matrices (or vectors) stacked along the outermost dimension.
  case stacked(String, index: Int, count: Int)
  /// The weight's numbers lie in one tensor or in several, in another order or through a function.
  case arranged([GGUFPiece])
  /// The weight makes keys and values of all heads from a latent vector, for each head `keyWidth` rows of keys and then
  /// its rows of values. The tensors hold keys as [heads, latent, keyWidth], transposed for the absorbed form of
  /// attention, and values as [heads, value width, latent].
  case keysAndValues(keys: String, values: String, heads: Int, keyWidth: Int)

  /// The tensors, in order.
  package var tensors: [String] {
    switch self {
    case .whole(let name), .stacked(let name, _, _): [name]
    case .arranged(let pieces): pieces.map(\.tensor)
    case .keysAndValues(let keys, let values, _, _): [keys, values]
    }
  }

  /// One tensor with all rows in another order.
  package static func ordered(_ tensor: String, _ order: RowOrder) -> GGUFPlace {
    .arranged([GGUFPiece(tensor, [.rows(order)])])
  }
}

/// A tensor that holds a weight or some of its rows.
package struct GGUFPiece: Sendable, Hashable {
  /// What leads from the weight's numbers to the tensor's.
  package enum Step: Sendable, Hashable {
    /// Rows, numbers of a vector.
    case rows(RowOrder)
    /// Columns.
    case columns(RowOrder)
    /// Each number for itself.
    case numbers(NumberMap)
    /// The same numbers in other dimensions: a vector as a matrix. Always the last step.
    case shape(Shape)
  }

  /// The tensor's name.
  package let tensor: String
  /// The steps, one after another.
  package let steps: [Step]

  /// A piece.
  package init(_ tensor: String, _ steps: [Step]) {
    self.tensor = tensor
    self.steps = steps
  }

  /// A refusal of a weight whose rows or columns are not those that an order is for.
  package static func noOrder(_ weight: Weight) -> FormatError {
    FormatError(
      .configShape, file: weight.file, subject: weight.name,
      "is \(weight.shape), which is not the heads that the configuration counts")
  }
}
