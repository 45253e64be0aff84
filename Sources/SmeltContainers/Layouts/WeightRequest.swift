// What is asked of a checkpoint: one weight by its place and its dimensions.

package import SmeltTensors

extension Spelling {
  /// The module's name: the tensor's without `.weight`.
  var module: String {
    let (utf8, ending) = (tensor.utf8, ".weight".utf8)
    guard utf8.suffix(ending.count).elementsEqual(ending) else { return tensor }
    return String(tensor[..<utf8.index(utf8.endIndex, offsetBy: -ending.count)])
  }
}

/// What a family asks of a checkpoint.
package struct WeightRequest: Sendable {
  /// Where the weight lies.
  package let place: Spelling
  /// The dimensions its numbers must have, output channels first.
  package let shape: Shape
  /// Whether integers are expected rather than numbers to multiply by.
  package let isTable: Bool
  /// Whether elements of any type are taken as they are: nobody computes with them here.
  package let takesAnyType: Bool

  /// A request.
  package init(_ place: Spelling, shape: Shape, isTable: Bool = false, takesAnyType: Bool = false) {
    self.place = place
    self.shape = shape
    self.isTable = isTable
    self.takesAnyType = takesAnyType
  }
}
