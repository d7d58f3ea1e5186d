// Places embedded samples on an atlas of labelled cells, and names their cells after those they lie near.

include { SCGPT_EMBED as SCGPT_EMBED_REFERENCE } from '../modules/scgpttools/scgpt/embed/main'
include { SCGPT_MAPREFERENCEBUILD              } from '../modules/scgpttools/scgpt/mapreferencebuild/main'
include { SCGPT_MAPREFERENCEQUERY              } from '../modules/scgpttools/scgpt/mapreferencequery/main'

workflow ATLAS {
    take:
    embedded // channel: [meta, cells that the model has embedded]
    model // channel: [meta, folder of the model]
    reference // labelled cells
    labels // column of the reference that holds the cell types

    main:
    SCGPT_EMBED_REFERENCE(channel.value([[id: 'reference'], file(reference, checkIfExists: true)]), model)
    SCGPT_MAPREFERENCEBUILD(SCGPT_EMBED_REFERENCE.out.h5ad.map { _meta, cells -> [[id: 'atlas'], cells, labels] }, [])
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
    files // channel: what the report is made of
    mapped // channel: [meta, cells with types and places]
}
