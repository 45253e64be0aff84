// The currency: one matrix, vector or table with its scales and its encoding. A checkpoint's `weight` and `scale`
// tensors become one `Weight` when read and part again only when written.

package import SmeltStorage
internal import Synchronization

/// Which of a weight's byte strings a part is.
package enum PartName: String, Sendable, Hashable, CaseIterable {
  /// The codes.
  case values
  /// What codes are multiplied by.
  case scales
  /// One number that all scales are multiplied or divided by.
  case globalScale = "global_scale"
  /// The codes that stand for zero.
  case zeroPoints = "zero_points"
  /// Which group each column belongs to.
  case groupIndex = "group_index"
}

/// One of a weight's byte strings.
package struct Part: Sendable {
  /// Which one it is.
  package let name: PartName
  /// The type of its elements, as stored.
  package let dtype: DType
  /// Its dimensions, as stored: packed 4-bit codes have half the weight's columns.
  package let shape: Shape
  /// The bytes, little-endian, row-major.
  package let bytes: Bytes

  /// A part; `bytes.count` must be what shape and dtype need.
  package init(_ name: PartName, dtype: DType, shape: Shape, bytes: Bytes) {
    self.name = name
    self.dtype = dtype
    self.shape = shape
    self.bytes = bytes
  }
}

/// What an encoding asks of a part.
package struct PartLayout: Sendable, Hashable {
  /// Which part.
  package let name: PartName
  /// The dtypes it may have.
  package let dtypes: [DType]
  /// The dimensions it must have.
  package let shape: Shape

  /// A requirement.
  package init(_ name: PartName, dtypes: [DType], shape: Shape) {
    self.name = name
    self.dtypes = dtypes
    self.shape = shape
  }
}

/// What a weight is, and what its products found out about it.
private final class Content: Sendable {
  let name: String
  let shape: Shape
  let encoding: any Encoding
  let parts: [Part]
  let file: String?
  /// The number of output channels; nil where it overflows, as it may in a shape without elements.
  let rows: Int?
  let columns: Int
  let isFetched: Bool
  let forms = Mutex(ProductForms())

  init(_ name: String, _ shape: Shape, _ encoding: any Encoding, _ parts: [Part], _ file: String?) {
    (self.name, self.shape, self.encoding, self.parts, self.file) = (name, shape, encoding, parts, file)
    (rows, columns) = (Shape.checkedCount(shape.dimensions.dropLast()), shape.columns)
    isFetched = parts.contains { $0.bytes.isFetched }
  }
}

/// How kernels read a weight, found once.
private struct ProductForms {
  /// The codes where they lie; nil inside where no kernel reads them so.
  var coded: CodedRows??
  /// The same for products of whole numbers.
  var integers: IntegerRows??
}

/// One weight: dimensions, encoding and parts, checked once when it is made. Copying it copies no bytes and counts one reference: a pass
/// copies hundreds a token, and what they are made of has left the cache each time.
package struct Weight: Sendable {
  private let content: Content

  /// A name for messages: the source tensor's.
  package var name: String { content.name }
  /// The dimensions of the numbers it stands for, output channels first.
  package var shape: Shape { content.shape }
  /// How the numbers are stored.
  package var encoding: any Encoding { content.encoding }
  /// The parts in the encoding's order.
  package var parts: [Part] { content.parts }
  /// The file that holds it, for messages.
  package var file: String? { content.file }

  /// A weight whose parts fit its encoding and shape.
  /// - Throws: `Q_SCALE_MISSING`, `Q_SCALE_SHAPE`, `Q_PACK` or `CFG_SHAPE`, naming the part, found and expected.
  package init(name: String, shape: Shape, encoding: any Encoding, parts: [Part], file: String? = nil)
    throws(FormatError)
  {
    let layouts = try encoding.layout(of: shape, name: name)
    var ordered: [Part] = []
    for layout in layouts {
      guard let part = parts.first(where: { $0.name == layout.name }) else {
        throw FormatError(
          .scaleMissing, file: file, subject: name, "is \(encoding.name) but has no \(layout.name.rawValue)")
      }
      let isCodes = layout.name == .values
      guard layout.dtypes.contains(part.dtype) else {
        throw FormatError(
          isCodes ? .configShape : .scaleShape, file: file, subject: name,
          "its \(layout.name.rawValue) are \(part.dtype), expected "
            + layout.dtypes.map(\.rawValue).joined(separator: " or "))
      }
      guard part.shape == layout.shape else {
        throw FormatError(
          isCodes ? (encoding.isPacked ? .packed : .configShape) : .scaleShape, file: file, subject: name,
          "its \(layout.name.rawValue) are \(part.shape), expected \(layout.shape) for \(encoding.name) of \(shape)"
        )
      }
      guard let expected = part.dtype.byteCount(part.shape.count), expected == part.bytes.count else {
        throw FormatError(
          isCodes ? .configShape : .scaleShape, file: file, subject: name,
          "its \(layout.name.rawValue) are \(part.bytes.count) bytes, expected \(part.dtype) \(part.shape)")
      }
      ordered.append(part)
    }
    content = Content(name, shape, encoding, ordered, file)
  }

  /// A weight of parts whose names, types and dimensions were checked by a weight that was made of the same tensors before.
  package init(checked name: String, shape: Shape, encoding: any Encoding, parts: [Part], file: String?) {
    content = Content(name, shape, encoding, parts, file)
  }

  /// The part of a name; the initializer made sure of those that the encoding needs.
  package func part(_ name: PartName) -> Part? { parts.first { $0.name == name } }

  /// The codes.
  package var values: Part { parts[0] }

  /// The number of output channels.
  package var rows: Int { content.rows ?? shape.rows }
  /// The number of input channels.
  package var columns: Int { content.columns }
  /// Bytes of all parts.
  package var byteCount: Int { parts.reduce(0) { $0 + $1.bytes.count } }

  /// Refuses codes and scales that are not finite.
  /// - Throws: `Q_CODE_NAN`, `Q_SCALE_VALUE`, `Q_BLOCK`.
  package func validate() throws(FormatError) {
    // Without elements there is nothing to look at, however large the other dimensions are.
    if !shape.dimensions.contains(0) { try encoding.validate(self) }
  }

  /// Stops the program where a rectangle does not lie inside the weight. Encodings ask before they read through addresses.
  package func requireInside(_ rows: Range<Int>, _ columns: Range<Int>) {
    precondition(
      rows.lowerBound >= 0 && rows.upperBound <= self.rows && columns.lowerBound >= 0
        && columns.upperBound <= self.columns,
      "rows \(rows), columns \(columns) lie outside '\(name)', which is \(shape)")
  }

  /// Decodes whole rows, which the weight must have.
  /// - Returns: `rows.count × columns` floats, row after row.
  package func decode(rows: Range<Int>) -> [Float] {
    guard !shape.dimensions.contains(0) else { return [] }
    // SAFETY: `decode` writes all of the rows' floats, without gaps, or the program ends: none stays uninitialized.
    return [Float](unsafeUninitializedCapacity: rows.count * columns) { buffer, count in
      if let base = buffer.baseAddress {
        encoding.decode(self, rows: rows, columns: 0..<columns, into: base, stride: columns)
      }
      count = rows.count * columns
    }
  }

  /// Decodes everything. For vectors and small tables; big matrices are decoded row by row.
  package func decode() -> [Float] { decode(rows: 0..<rows) }

  /// Bytes of the parts that lie in memory of their own, not in a mapped file.
  package var heldBytes: Int { parts.reduce(0) { $0 + ($1.bytes.isMapped ? 0 : $1.bytes.count) } }

  /// The same weight, every part in memory of its own.
  package func held() throws(FormatError) -> Weight {
    guard heldBytes < byteCount else { return self }
    let copies = parts.map { part in
      part.bytes.isMapped
        ? Part(part.name, dtype: part.dtype, shape: part.shape, bytes: part.bytes.copy) : part
    }
    return try Weight(name: name, shape: shape, encoding: encoding, parts: copies, file: file)
  }

  /// The same weight with other bytes of the same parts.
  private init(_ other: Weight, _ bytes: (Part) throws -> Bytes) rethrows {
    let parts = try other.parts.map {
      Part($0.name, dtype: $0.dtype, shape: $0.shape, bytes: try bytes($0))
    }
    content = Content(other.name, other.shape, other.encoding, parts, other.file)
  }

  /// Whether some part is fetched from elsewhere when it is asked for.
  package var isFetched: Bool { content.isFetched }

  /// The same weight with holds of its own on bytes that are fetched: they go with this value and its copies, not with the file.
  package var apart: Weight { isFetched ? Weight(self) { $0.bytes.apart } : self }

  /// The same weight with all that is fetched in memory, as long as the value or a copy lives.
  /// - Throws: what kept it from being fetched.
  package func fetched() throws -> Weight { isFetched ? try Weight(self) { try $0.bytes.fetched() } : self }

  /// The same weight, of which `bytes` of the codes and all other parts are in memory as long as the value or a copy lives; other codes
  /// must not be touched through it.
  /// - Throws: what kept them from being fetched.
  package func window(_ bytes: Range<Int>) throws -> Weight {
    guard isFetched else { return self }
    return try Weight(self) { try $0.name == .values ? $0.bytes.window(bytes) : $0.bytes.fetched() }
  }

  /// Lets the system take back the pages of a mapped file that hold this weight.
  package func evict() { for part in parts { part.bytes.evict() } }

  /// The elements of an integer table (`i64`, `i32`).
  /// - Throws: `CFG_SHAPE` when the weight is not a table of integers.
  package func integers() throws(FormatError) -> [Int] {
    guard let table = encoding as? IntegerTable else {
      throw FormatError(
        .configShape, file: file, subject: name, "is \(encoding.name), expected a table of integers")
    }
    return table.integers(self)
  }
}

extension Weight {
  /// The codes where they lie, as the encoding gives them. Those that are fetched are asked for each time: what holds them counts.
  var coded: CodedRows? {
    guard !isFetched else { return encoding.coded(self) }
    if let known = content.forms.withLock({ $0.coded }) { return known }
    let found = encoding.coded(self)
    content.forms.withLock { $0.coded = .some(found) }
    return found
  }

  /// The codes for products of whole numbers; nil where there is no kernel for them.
  var integerRows: IntegerRows? {
    guard !isFetched else { return IntegerRows(self) }
    if let known = content.forms.withLock({ $0.integers }) { return known }
    let found = IntegerRows(self)
    content.forms.withLock { $0.integers = .some(found) }
    return found
  }
}
