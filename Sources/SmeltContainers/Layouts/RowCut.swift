// The rows of a stacked, fused, interleaved or transposed tensor that are one weight: where they lie, and lending or
// copying them.

internal import CKernels
package import SmeltStorage
internal import SmeltTensors

/// Some rows of a tensor. All numbers count elements.
struct RowCut {
  /// The first element.
  let first: Int
  /// Rows and columns of the matrix; a vector has one column.
  let rows: Int
  let columns: Int
  /// From an element to the one below and to the one beside it.
  let rowStep: Int
  let columnStep: Int

  /// Whether the elements lie side by side in order.
  var isContiguous: Bool { (columnStep == 1 || columns <= 1) && (rowStep == columns || rows <= 1) }

  /// The elements from the first to the last, those of other weights between them included.
  var span: Range<Int> {
    guard rows > 0, columns > 0 else { return first..<first }
    return first..<first + (rows - 1) * rowStep + (columns - 1) * columnStep + 1
  }

  /// The rows that `place` names of a tensor stored with these dimensions; nil when they do not make up `wanted`.
  init?(_ place: Spelling, of stored: Shape, wanted: Shape) {
    var inner = stored.dimensions
    var base = 0
    if let index = place.stackIndex {
      guard inner.count > 1, (0..<inner[0]).contains(index) else { return nil }
      inner.removeFirst()
      base = index * inner.reduce(1, *)
    }
    let isVector = wanted.rank < 2
    let all: Int
    let step: Int
    if isVector {
      (columns, all, step, columnStep) = (1, inner.reduce(1, *), 1, 1)
    } else if place.transposed {
      guard inner.count == 2 else { return nil }
      (columns, all, step, columnStep) = (inner[0], inner[1], 1, inner[1])
    } else {
      guard let last = inner.last else { return nil }
      (columns, all, step, columnStep) = (last, inner.dropLast().reduce(1, *), last, 1)
    }
    let range = place.rows ?? 0..<all
    guard range.lowerBound >= 0, range.upperBound <= all else { return nil }
    rows = ceilDivide(max(0, range.count - place.rowPhase), place.rowStride)
    guard rows == (isVector ? wanted.count : wanted.rows), isVector || columns == wanted.columns else {
      return nil
    }
    first = base + (range.lowerBound + place.rowPhase) * step
    rowStep = step * place.rowStride
  }

  /// The bytes that hold the rows, other weights' between them included.
  func bytes(of tensor: TensorInfo) -> Bytes {
    let size = tensor.dtype.bits / 8
    return tensor.bytes[span.lowerBound * size..<span.upperBound * size]
  }

  /// What the weight takes of a tensor.
  func share(of tensor: TensorInfo) -> Share {
    Share(tensor, bytes(of: tensor), byteCount: rows * columns * tensor.dtype.bits / 8)
  }

  /// The rows side by side, in memory of their own; `bytes` are those of `bytes(of:)`.
  func gather(_ bytes: Bytes, elementBytes size: Int) -> Bytes {
    reordered(bytes, count: rows * columns * size) { source, out in
      sk_gather(source, size, rows, columns, rowStep, columnStep, out)
    }
  }
}

/// `count` bytes of fresh memory that `body` fills from `bytes`; neither address is given when there is nothing to fill.
func reordered(
  _ bytes: Bytes, count: Int, _ body: (UnsafePointer<UInt8>, UnsafeMutablePointer<UInt8>) -> Void
) -> Bytes {
  // SAFETY: `body` must read inside `bytes` and write all of `count` bytes; its callers compute both from a checked tensor's shape.
  let buffer = ByteBuffer(count: count)
  bytes.withUnsafeBytes { source in
    guard count > 0, let source = source.bindMemory(to: UInt8.self).baseAddress,
      let out = buffer.bytes.bindMemory(to: UInt8.self).baseAddress
    else { return }
    body(source, out)
  }
  return Bytes(buffer)
}

/// A matrix of elements of `size` bytes, transposed: [rows, columns] to [columns, rows].
package func transposed(_ bytes: Bytes, size: Int, rows: Int, columns: Int) -> Bytes {
  reordered(bytes, count: rows * columns * size) { sk_gather($0, size, columns, rows, 1, columns, $1) }
}
