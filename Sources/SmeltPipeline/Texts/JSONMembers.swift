// The members of a JSON object in their order, and an object with one more.

package import SmeltStorage

extension JSON {
  /// The members of an object in their order; none of what is no object.
  package var members: [(String, JSON)] {
    zip(object?.keys ?? [], object?.values ?? []).map { ($0, $1) }
  }

  /// An object with one more member at its end.
  package func adding(_ key: String, _ value: JSON) -> JSON {
    JSON(members: members + [(key, value)])
  }
}
