// What a budget came to.

package import SmeltQuantization
package import SmeltStorage

/// What a budget came to.
package struct BudgetSummary: Sendable {
  /// The groups with their choices.
  package var groups: [BudgetGroup]
  /// The choice of each.
  package var chosen: [Int]
  /// Bytes that the weights may have, and will have.
  package var bytes: (allowed: Int, planned: Int)

  /// The table.
  package var text: String {
    var table = Table(["weights", "scheme", "bytes", "layer error"])
    for (group, place) in zip(groups, chosen) {
      let choice = group.choices[place]
      table.add([group.name, choice.scheme, byteText(choice.bytes), scientific(choice.error)])
    }
    return table.text + "\n\(byteText(bytes.planned)) of \(byteText(bytes.allowed))"
  }

  /// For machines.
  package var json: JSON {
    [
      "allowed_bytes": JSON(bytes.allowed), "planned_bytes": JSON(bytes.planned),
      "groups": JSON(
        zip(groups, chosen).map { group, place in
          [
            "name": JSON(group.name), "scheme": JSON(group.choices[place].scheme),
            "choices": JSON(
              group.choices.map {
                ["scheme": JSON($0.scheme), "bytes": JSON($0.bytes), "error": JSON($0.error)]
              }),
          ]
        }),
    ]
  }
}
