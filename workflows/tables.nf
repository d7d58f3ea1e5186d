// Tables as texts.

// A row of a CSV file.
def csv(values) {
    return values.collect { value -> '"' + value.replace('"', '""') + '"' }.join(',') + '\n'
}
