// Nothing is called by name: the kernels are found through the tables that CKernels declares (table.h).
