"""Message type bytes, named as in the PostgreSQL documentation, "Message Formats".

Letters repeat between the directions, so each name carries its own: FE_ is sent by the frontend (our client),
BE_ by the backend (our server).
"""

cdef enum:
    FE_BIND = 0x42                # 'B'
    FE_CLOSE = 0x43               # 'C'
    FE_DESCRIBE = 0x44            # 'D'
    FE_EXECUTE = 0x45             # 'E'
    FE_FUNCTION_CALL = 0x46       # 'F'
    FE_FLUSH = 0x48               # 'H'
    FE_PARSE = 0x50               # 'P'
    FE_QUERY = 0x51               # 'Q'
    FE_SYNC = 0x53                # 'S'
    FE_TERMINATE = 0x58           # 'X'
    FE_COPY_DONE = 0x63           # 'c'
    FE_COPY_DATA = 0x64           # 'd'
    FE_COPY_FAIL = 0x66           # 'f'
    FE_PASSWORD = 0x70            # 'p', also SASLInitialResponse and SASLResponse

    BE_PARSE_COMPLETE = 0x31      # '1'
    BE_BIND_COMPLETE = 0x32       # '2'
    BE_CLOSE_COMPLETE = 0x33      # '3'
    BE_NOTIFICATION = 0x41        # 'A'
    BE_COMMAND_COMPLETE = 0x43    # 'C'
    BE_DATA_ROW = 0x44            # 'D'
    BE_ERROR = 0x45               # 'E'
    BE_COPY_IN = 0x47             # 'G'
    BE_COPY_OUT = 0x48            # 'H'
    BE_EMPTY_QUERY = 0x49         # 'I'
    BE_BACKEND_KEY_DATA = 0x4B    # 'K'
    BE_NOTICE = 0x4E              # 'N'
    BE_AUTHENTICATION = 0x52      # 'R'
    BE_PARAMETER_STATUS = 0x53    # 'S'
    BE_ROW_DESCRIPTION = 0x54     # 'T'
    BE_FUNCTION_RESULT = 0x56     # 'V'
    BE_COPY_BOTH = 0x57           # 'W'
    BE_READY = 0x5A               # 'Z'
    BE_COPY_DONE = 0x63           # 'c'
    BE_COPY_DATA = 0x64           # 'd'
    BE_NO_DATA = 0x6E             # 'n'
    BE_PORTAL_SUSPENDED = 0x73    # 's'
    BE_PARAMETER_DESCRIPTION = 0x74  # 't'
    BE_NEGOTIATE = 0x76           # 'v'

    TX_IDLE = 0x49                # 'I', the status byte of ReadyForQuery
    TX_BLOCK = 0x54               # 'T'
    TX_FAILED = 0x45              # 'E'
