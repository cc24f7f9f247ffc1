/* The interpreter as a position-independent program: Occlum starts no other, and Debian's /usr/bin/python3 is none. */
int Py_BytesMain(int argc, char **argv);

int main(int argc, char **argv) { return Py_BytesMain(argc, argv); }
