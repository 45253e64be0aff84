// Dimensions of a tensor or a weight, outermost first, as safetensors and PyTorch write them.

/// The dimensions of a tensor. The last one runs fastest.
package struct Shape: Hashable, Sendable, CustomStringConvertible, ExpressibleByArrayLiteral {
  /// Outermost first; none is negative.
  package let dimensions: [Int]

  /// A shape of known dimensions. Their product must fit in 63 bits: readers check with `checkedCount`.
  package init(_ dimensions: [Int]) { self.dimensions = dimensions }

  /// A shape written as a list.
  package init(arrayLiteral elements: Int...) { self.init(elements) }

  /// The number of elements; 1 for a scalar.
  package var count: Int {
    var product = 1
    for dimension in dimensions { product *= dimension }
    return product
  }

  /// The number of elements, or nil when it does not fit in 63 bits or a dimension is negative.
  package static func checkedCount(_ dimensions: some Sequence<Int>) -> Int? {
    var product = 1
    for dimension in dimensions {
      guard dimension >= 0 else { return nil }
      let (value, overflow) = product.multipliedReportingOverflow(by: dimension)
      if overflow { return nil }
      product = value
    }
    return product
  }

  /// The number of dimensions.
  package var rank: Int { dimensions.count }

  /// The length of the fastest dimension: a weight's input channels. 1 for a scalar.
  package var columns: Int { dimensions.last ?? 1 }

  /// The product of all other dimensions: a weight's output channels.
  package var rows: Int {
    var product = 1
    for place in 0..<max(0, dimensions.count - 1) { product *= dimensions[place] }
    return product
  }

  /// `[rows, columns]` as text.
  package var description: String { "[" + dimensions.map(String.init).joined(separator: ", ") + "]" }
}

/// The smallest whole number of steps of `step` that reaches `value`.
package func ceilDivide(_ value: Int, _ step: Int) -> Int {
  value / step + (value % step > 0 ? 1 : 0)  // value + step - 1 could overflow
}
