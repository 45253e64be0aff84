// Where a weight lies among the tensors of a GGUF model: llama.cpp's loader wants some weights stacked, some with their rows
// in another order, and one cut in two. Families say it, containers find the bytes behind it.

/// Where a GGUF model keeps a weight.
package enum GGUFPlace: Sendable, Hashable {
  /// The weight is the tensor.
  case whole(String)
  /// The weight is one of `count` matrices (or vectors) stacked along the outermost dimension.
  case stacked(String, index: Int, count: Int)
  /// The weight's rows are those of `heads` heads, and in each head the tensor has channels i and i + half side by side
  /// at 2i and 2i + 1: what a rotation of neighbouring channels needs of a weight made for halves.
  case pairedHeads(String, heads: Int)
  /// The weight makes keys and values of all heads from a latent vector, for each head `keyWidth` rows of keys and then
  /// its rows of values. The tensors hold keys as [heads, latent, keyWidth], transposed for the absorbed form of
  /// attention, and values as [heads, value width, latent].
  case keysAndValues(keys: String, values: String, heads: Int, keyWidth: Int)

  /// The tensors, in order.
  package var tensors: [String] {
    switch self {
    case .whole(let name), .stacked(let name, _, _), .pairedHeads(let name, _): [name]
    case .keysAndValues(let keys, let values, _, _): [keys, values]
    }
  }

  /// The place of a head's row in the tensor, given its place in the weight: rows of `headRows`.
  /// Source: llama.cpp's conversion of Llama, which swaps the axes of [2, half].
  package static func pairedRow(_ row: Int, headRows: Int) -> Int {
    let (head, channel) = row.quotientAndRemainder(dividingBy: headRows)
    let half = headRows / 2
    return head * headRows + (channel < half ? 2 * channel : 2 * (channel - half) + 1)
  }
}
