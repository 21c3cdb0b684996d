// OpenBLAS's LAPACK is Fortran. Of its compiler's runtime library, what MLX calls of it needs this one
// function: to put two strings together. It has to be, so that no release carries that library.
#include <string.h>

typedef __SIZE_TYPE__ size;

void _gfortran_concat_string(size length, char *result, size first_length, const char *first,
                             size second_length, const char *second) {
  if (first_length > length) first_length = length;
  memcpy(result, first, first_length);
  size rest = length - first_length;
  if (second_length > rest) second_length = rest;
  memcpy(result + first_length, second, second_length);
  memset(result + first_length + second_length, ' ', rest - second_length);
}
