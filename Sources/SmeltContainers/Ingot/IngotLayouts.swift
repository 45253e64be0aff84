// The parts of weights against what their encodings ask for: rules I24 to I26 of Formats/ingot.md.

internal import SmeltStorage
internal import SmeltTensors

/// What an encoding asks of a shape, made once for each pair of them: models have few.
struct PartLayoutCache {
  private struct Layout {
    let encoding: UInt16
    let dimension: UInt32
    let rank: UInt8
    let parts: [(part: UInt8, dtypes: [UInt8], shape: Shape, dimension: UInt32?)]
  }

  private static let limit = 256
  private var layouts: [Layout] = []
  private var last = 0

  /// Holds a weight's parts against what its encoding asks for.
  mutating func check(_ index: IngotIndex, _ at: Int) throws(FormatError) {
    let layout = try layout(index, at)
    guard layout.parts.count == Int(index.byte(at + 7)) else {
      throw index.refuse(
        index.name(at), at: at + 7, "has \(index.byte(at + 7)) parts, expected \(layout.parts.count)")
    }
    for (place, part) in layout.parts.enumerated() {
      let record = index.places.frames + (Int(index.word(at + 8)) + place) * IngotIndex.frameBytes
      let frame = IngotFrame(index: index, row: Int(index.word(at + 8)) + place)
      guard index.byte(record + 66) == part.part, part.dtypes.contains(index.byte(record + 65)) else {
        throw index.refuse(
          index.name(at), at: record + 65, "part \(place) is \(frame.part.rawValue) of \(frame.dtype)")
      }
      guard
        index.word(record + 60) == part.dimension && Int(index.byte(record + 67)) == part.shape.rank
          || frame.shape == part.shape
      else {
        throw index.refuse(
          index.name(at), at: record + 60,
          "its \(frame.part.rawValue) are \(frame.shape), expected \(part.shape)")
      }
      guard let needed = frame.dtype.byteCount(part.shape.count) else {
        throw index.refuse(
          index.name(at), at: record + 60,
          "its \(frame.part.rawValue) are not a whole number of bytes: \(frame.dtype) \(part.shape)")
      }
      let content = index.long(record + 16)
      guard content == UInt64(needed) else {
        throw index.refuse(
          "\(index.name(at)) (\(frame.part.rawValue))", at: record + 16,
          "declares \(content) bytes of content, expected \(needed)",
          code: content > UInt64(needed) ? .ingotBomb : .ingotIndex)
      }
    }
  }

  private mutating func layout(_ index: IngotIndex, _ at: Int) throws(FormatError) -> Layout {
    let (encoding, dimension, rank) = (index.half(at + 24), index.word(at + 12), index.byte(at + 6))
    func fits(_ layout: Layout) -> Bool {
      layout.encoding == encoding && layout.dimension == dimension && layout.rank == rank
    }
    if last < layouts.count, fits(layouts[last]) { return layouts[last] }
    if let place = layouts.firstIndex(where: fits) {
      last = place
      return layouts[place]
    }
    let shape = index.shape(Int(dimension), rank: Int(rank))
    var product = 1
    for dimension in shape.dimensions {
      guard dimension <= IngotLimits.elements / product else {
        throw index.refuse(index.name(at), at: at + 12, "is \(shape), too large for a shape")
      }
      product *= max(1, dimension)
    }
    let parts: [PartLayout]
    do {
      parts = try index.encodings[Int(encoding)].layout(of: shape, name: "")
    } catch {
      throw index.refuse(index.name(at), at: at + 12, error.problem)
    }
    let first = Int(index.word(at + 8))
    let layout = Layout(
      encoding: encoding, dimension: dimension, rank: rank,
      parts: parts.enumerated().map { place, part in
        // Where this weight keeps the part's dimensions, the next ones will: they need not be compared again.
        let row = first + place
        let isKnown = row < index.counts.weightFrames && index.frame(row).shape == part.shape
        return (
          UInt8(IngotLimits.parts.firstIndex(of: part.name) ?? 0xFF),
          part.dtypes.compactMap { dtype in IngotLimits.dtypes.firstIndex(of: dtype).map { UInt8($0) } },
          part.shape,
          isKnown ? UInt32(index.frame(row).firstDimension) : nil
        )
      })
    last = layouts.count
    if layouts.count == PartLayoutCache.limit { layouts.removeAll() }
    last = layouts.count
    layouts.append(layout)
    return layout
  }
}
