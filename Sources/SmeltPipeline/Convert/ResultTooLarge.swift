// A result that has more bytes than its target allows.

/// A result was not given its name, since its files have more bytes than the target.
struct ResultTooLarge: Error {
  /// Bytes of all its files.
  var bytes: Int
  /// The most that were allowed.
  var limit: Int

  /// Throws where a result is too large.
  static func check(_ bytes: Int, _ options: ConvertOptions) throws {
    if let limit = options.byteLimit, bytes > limit { throw ResultTooLarge(bytes: bytes, limit: limit) }
  }
}
