#include "service/cli/app.h"

int main(int argc, char** argv) { return lectern::cli::Main(argc, argv); }
