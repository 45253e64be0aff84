// What every verb that can be resumed shares: the journal beside its result, what it is held against, and what is said.

import SmeltStorage

/// The journal beside a result.
enum ResultJournal {
  /// Its path.
  static func path(_ result: String) -> String { "\(withoutSlash(result)).journal" }

  /// Refuses a journal of other work.
  /// - Throws: `RESUME_MISMATCH` naming the first member that differs.
  static func check(_ found: JSON, is expected: JSON, file: String) throws(FormatError) {
    guard found.object != nil else {
      throw FormatError(.resumeMismatch, file: file, "is not a Smelt journal")
    }
    if let place = difference(found, expected) {
      throw FormatError(.resumeMismatch, file: file, subject: place.key, place.problem)
    }
  }

  /// The first member of `expected` that something has otherwise; nil where it has all of them.
  static func difference(_ found: JSON, _ expected: JSON) -> (key: String, problem: String)? {
    guard let expected = expected.object else { return nil }
    for (key, value) in zip(expected.keys, expected.values) where found[key]?.text() != value.text() {
      let place = difference(found[key] ?? JSON(.null), value, key)
      return (
        place.key,
        "was \(excerpt(place.found.isNull ? "absent" : place.found.text(), limit: 200)), "
          + "is now \(excerpt(place.expected.isNull ? "absent" : place.expected.text(), limit: 200))"
      )
    }
    return nil
  }

  /// The first value that two objects differ in, however deep it lies.
  private static func difference(_ found: JSON, _ expected: JSON, _ key: String) -> (
    key: String, found: JSON, expected: JSON
  ) {
    if let a = found.object, let b = expected.object {
      for name in b.keys + a.keys where a[name]?.text() != b[name]?.text() {
        return difference(a[name] ?? JSON(.null), b[name] ?? JSON(.null), "\(key).\(name)")
      }
    }
    if let a = found.array, let b = expected.array, a.count == b.count,
      let place = a.indices.first(where: { a[$0].text() != b[$0].text() })
    {
      return difference(a[place], b[place], "\(key)[\(place)]")
    }
    return (key, found, expected)
  }
}

extension RequestError {
  /// `--resume` without anything to go on with.
  static func nothingToResume(_ journalPath: String) -> RequestError {
    RequestError(
      .usage, "there is nothing to resume: '\(journalPath)' is not there", help: "start without --resume")
  }

  /// The error, with the offer to go on.
  var offeringResume: RequestError {
    var error = self
    error.help = "what is done is kept; give the same command with --resume to go on"
    return error
  }
}
