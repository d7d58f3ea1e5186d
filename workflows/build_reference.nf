// Builds a reference index of labeled cells, and transfers labels to embedded samples from their nearest reference cells.

include { SCGPT_EMBED as SCGPT_EMBED_REFERENCE } from '../modules/scgpttools/scgpt/embed/main'
include { SCGPT_MAPREFERENCEBUILD              } from '../modules/scgpttools/scgpt/mapreferencebuild/main'
include { SCGPT_MAPREFERENCEQUERY              } from '../modules/scgpttools/scgpt/mapreferencequery/main'

workflow BUILD_REFERENCE {
    take:
    embedded // channel: [meta, cells embedded with the model]
    model // channel: [meta, directory of the model]
    reference // labeled cells
    labels // column of the reference that holds the cell types

    main:
    SCGPT_EMBED_REFERENCE(channel.value([[id: 'reference'], file(reference, checkIfExists: true)]), model)
    SCGPT_MAPREFERENCEBUILD(SCGPT_EMBED_REFERENCE.out.h5ad.map { _meta, cells -> [[id: 'reference_index'], cells, labels] }, [])
    SCGPT_MAPREFERENCEQUERY(
        embedded.map { meta, cells -> [meta + [id: "${meta.id}.mapped".toString()], cells, []] },
        SCGPT_MAPREFERENCEBUILD.out.index.first(),
        [],
    )
    mapped = SCGPT_MAPREFERENCEQUERY.out.h5ad
    files = mapped
        .mix(SCGPT_MAPREFERENCEBUILD.out.record, SCGPT_MAPREFERENCEQUERY.out.record)
        .map { _meta, file -> file }

    emit:
    files // channel: inputs of the report
    mapped // channel: [meta, cells with labels and coordinates]
}
