// What `bench` measured, for machines.

package import SmeltStorage

/// The figures of the kernels as JSON. Formats/report.md, section 16.
package func benchReport(_ rows: [BenchRow]) -> JSON {
  [
    "schema": "smelt.bench-kernels/1", "instruction_set": JSON(InstructionSet.current),
    "kernels": JSON(
      rows.map { row in
        [
          "name": JSON(row.name), "value": JSON(row.value), "unit": JSON(row.unit),
          "share_of_peak": row.share.map { JSON($0) } ?? JSON(.null),
          "share_of_reads": row.shareOfReads.map { JSON($0) } ?? JSON(.null),
        ]
      }),
  ]
}
