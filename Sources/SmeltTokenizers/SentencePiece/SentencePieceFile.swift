// A SentencePiece model file: pieces with scores and kinds, how its text is normalized. Source of the field numbers:
// sentencepiece_model.proto of SentencePiece 0.2.

package import SmeltStorage

/// The content of a `tokenizer.model` or `spiece.model`.
package struct SentencePieceFile: Sendable {
  /// What a piece is.
  package enum Kind: UInt64, Sendable {
    case normal = 1
    case unknown = 2
    case control = 3
    case userDefined = 4
    case unused = 5
    case byte = 6
  }

  /// One piece; its place in the list is its id.
  package struct Piece: Sendable {
    package var text = ""
    package var score: Float = 0
    package var kind = Kind.normal
  }

  /// The algorithms that Smelt runs.
  package enum Algorithm: UInt64, Sendable {
    case unigram = 1
    case pairs = 2
  }

  /// The file's name, for messages.
  package let file: String
  package private(set) var pieces: [Piece] = []
  package private(set) var algorithm = Algorithm.unigram
  /// Whether a character that no piece holds is written as its bytes.
  package private(set) var hasByteFallback = false
  /// Whether the mark of a word stands behind it.
  package private(set) var isSuffix = false
  /// The compiled replacements; empty for none.
  package private(set) var characterMap: [UInt8] = []
  package private(set) var addsPrefix = true
  package private(set) var removesExtraSpaces = true
  package private(set) var escapesSpaces = true

  /// The most pieces; the largest published vocabularies have 2^18.
  private static let pieceLimit = 1 << 22
  /// The longest piece in bytes.
  private static let lengthLimit = 1 << 16

  /// Reads a file.
  /// - Throws: `TOK_VALUE` with the byte for a damaged file; `RequestError` `unsupported` for another algorithm.
  package init(_ bytes: Bytes, file: String) throws {
    self.file = file
    let array = bytes.array
    var reader = ProtobufReader(array, 0..<array.count, file: file)
    while let (field, value, offset) = try reader.next() {
      switch (field, value) {
      case (1, .bytes(let range)):
        guard pieces.count < Self.pieceLimit else {
          throw wrong(offset, "found more than \(Self.pieceLimit) pieces")
        }
        pieces.append(try piece(array, range))
      case (2, .bytes(let range)): try readTraining(array, range)
      case (3, .bytes(let range)): try readNormalization(array, range)
      case (5, .bytes(let range)):
        if try hasMap(array, range) {
          throw RequestError(
            .unsupported, "a denormalizer in \(file) is not supported",
            help: "report the tokenizer; a text decoded without it would differ")
        }
      case (1, _), (2, _), (3, _), (5, _): throw wrong(offset, "found a number, expected a message")
      default: break
      }
    }
    guard !pieces.isEmpty else { throw wrong(0, "found no pieces, expected a SentencePiece model") }
    try check()
  }

  private func piece(_ bytes: [UInt8], _ range: Range<Int>) throws -> Piece {
    var piece = Piece()
    var reader = ProtobufReader(bytes, range, file: file)
    while let (field, value, offset) = try reader.next() {
      switch (field, value) {
      case (1, .bytes(let range)):
        guard range.count <= Self.lengthLimit else {
          throw wrong(offset, "found a piece of \(range.count) bytes, expected at most \(Self.lengthLimit)")
        }
        guard let text = String(validating: bytes[range], as: UTF8.self) else {
          throw wrong(offset, "found piece \(pieces.count), which is not UTF-8")
        }
        piece.text = text
      case (2, .bits32(let bits)):
        piece.score = Float(bitPattern: bits)
        guard piece.score.isFinite else {
          throw wrong(
            offset, "found \(piece.score) as score of piece \(pieces.count), expected a finite number")
        }
      case (3, .number(let number)):
        guard let kind = Kind(rawValue: number) else {
          throw wrong(offset, "found kind \(number) of piece \(pieces.count), expected 1 to 6")
        }
        piece.kind = kind
      default: break
      }
    }
    guard !piece.text.isEmpty else {
      throw wrong(range.lowerBound, "found piece \(pieces.count) without text")
    }
    return piece
  }

  private mutating func readTraining(_ bytes: [UInt8], _ range: Range<Int>) throws {
    var reader = ProtobufReader(bytes, range, file: file)
    while let (field, value, _) = try reader.next() {
      guard case .number(let number) = value else { continue }
      switch field {
      case 3:
        guard let known = Algorithm(rawValue: number) else {
          let name = number == 3 ? "WORD" : number == 4 ? "CHAR" : "\(number)"
          throw RequestError(
            .unsupported, "the SentencePiece model type \(name) in \(file) is not supported",
            help: "Smelt reads UNIGRAM and BPE")
        }
        algorithm = known
      case 24: isSuffix = number != 0
      case 35: hasByteFallback = number != 0
      default: break
      }
    }
  }

  private mutating func readNormalization(_ bytes: [UInt8], _ range: Range<Int>) throws {
    var reader = ProtobufReader(bytes, range, file: file)
    while let (field, value, offset) = try reader.next() {
      switch (field, value) {
      case (2, .bytes(let range)):
        guard range.count <= CharacterMap.byteLimit else {
          throw wrong(
            offset, "found a map of \(range.count) bytes, expected at most \(CharacterMap.byteLimit)")
        }
        characterMap = Array(bytes[range])
      case (3, .number(let number)): addsPrefix = number != 0
      case (4, .number(let number)): removesExtraSpaces = number != 0
      case (5, .number(let number)): escapesSpaces = number != 0
      default: break
      }
    }
  }

  private func hasMap(_ bytes: [UInt8], _ range: Range<Int>) throws -> Bool {
    var reader = ProtobufReader(bytes, range, file: file)
    while let (field, value, _) = try reader.next() {
      if field == 2, case .bytes(let range) = value, !range.isEmpty { return true }
    }
    return false
  }

  /// What SentencePiece itself asks of a model: each piece once, one unknown piece, all bytes or none.
  private func check() throws(FormatError) {
    var seen = ByteTable(capacity: pieces.count)
    var unknown: Int?
    var bytes = Set<UInt8>()
    for (id, piece) in pieces.enumerated() {
      // SAFETY: `insert` copies the text that it is lent.
      guard Array(piece.text.utf8).withUnsafeBufferPointer({ seen.insert($0, Int32(id)) }) else {
        throw wrong(nil, "found piece \(id), '\(printable(excerpt(piece.text)))', twice")
      }
      switch piece.kind {
      case .unknown:
        if let unknown {
          throw wrong(nil, "found pieces \(unknown) and \(id) as unknown piece, expected one")
        }
        unknown = id
      case .byte:
        guard let byte = TokenDecoderStep.fallbackByte(Array(piece.text.utf8)) else {
          throw wrong(
            nil,
            "found '\(printable(excerpt(piece.text)))' as byte piece \(id), expected one from <0x00> to <0xFF>"
          )
        }
        bytes.insert(byte)
      default: break
      }
    }
    guard unknown != nil else { throw wrong(nil, "found no unknown piece, expected one") }
    guard bytes.count == (hasByteFallback ? 256 : 0) else {
      throw wrong(
        nil,
        "found \(bytes.count) byte pieces, expected \(hasByteFallback ? "256" : "none without byte_fallback")"
      )
    }
  }

  func wrong(_ offset: Int?, _ problem: String) -> FormatError {
    FormatError(.tokenizerValue, file: file, offset: offset, problem, help: "fetch \(file) again")
  }
}
