"""Uses each command of imaplib and checks its answers. Arguments: the file of the
CA, user, password, the port of IMAP with TLS. It ends with "done"."""
import imaplib
import re
import ssl
import sys
import time

ca, user, password, port = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)


def ok(answer):
    typ, data = answer
    assert typ == 'OK', answer
    return data


def refused(answer):
    assert answer[0] == 'NO', answer
    return answer[1][0]


def letter(subject, body, more=''):
    return (f'From: Alice <alice@crepes.fr>\r\nTo: Bob <bob@hamburger.edu>\r\nSubject: {subject}\r\n'
            f'Date: Mon, 02 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{subject}@crepes.fr>\r\n{more}\r\n{body}\r\n').encode()


class Plain(imaplib.IMAP4_SSL):
    def plain(self):
        return ok(self.authenticate('PLAIN', lambda challenge: b'\0' + user.encode() + b'\0' + password.encode()))


i = Plain('localhost', int(port), ssl_context=context)
assert 'IMAP4REV2' in i.capabilities and 'LITERAL+' in i.capabilities, i.capabilities
try:
    i.login(user, 'wrong')
    raise AssertionError('a wrong password')
except imaplib.IMAP4.error as e:
    assert 'AUTHENTICATIONFAILED' in str(e), e
i.plain()
assert b'QRESYNC' in ok(i.capability())[0]
assert ok(i.namespace())[0].startswith(b'(("" "/"))')
ok(i.noop())

# Mailboxes.
for name in 'Work', 'Work/2026', 'Old':
    ok(i.create(name))
assert b'[ALREADYEXISTS]' in refused(i.create('Work'))
ok(i.rename('Old', 'New'))
ok(i.delete('New'))
assert b'[NONEXISTENT]' in refused(i.delete('New'))
ok(i.subscribe('Work'))
assert any(line.endswith(b'"Work"') for line in ok(i.lsub('""', '*')))
ok(i.unsubscribe('Work'))
assert not any(line.endswith(b'"Work"') for line in ok(i.lsub('""', '*')) if line)
assert [line.split(b' "/" ')[1] for line in ok(i.list('""', 'W*'))] == [b'"Work"', b'"Work/2026"']
assert ok(i.getquota('""'))[0].startswith(b'"" (STORAGE 0 10000'), i.getquota('""')
roots, limits = ok(i.getquotaroot('INBOX'))
assert roots == [b'INBOX ""'] and b'STORAGE' in limits[0], (roots, limits)
assert b'[NOPERM]' in refused(i.setquota('', '(STORAGE 1)'))

# Sharing.
ok(i.setacl('Work', 'alice', 'lrs'))
assert b' alice@hamburger.edu lrs' in ok(i.getacl('Work'))[0], i.getacl('Work')
ok(i.deleteacl('Work', 'alice'))
assert b'alice' not in ok(i.getacl('Work'))[0]
assert re.match(rb'"Work" l\w+$', ok(i.myrights('Work'))[0]), i.myrights('Work')

# Appending: with flags, with a date, and in UTF-8.
when = imaplib.Time2Internaldate(time.gmtime(1793613600))
data = ok(i.append('INBOX', r'(\Flagged $label1)', when, letter('one', 'ketchup')))
assert re.match(rb'\[APPENDUID \d+ 1\]', data[0]), data
ok(i.append('INBOX', None, None, letter('two', 'pickles')))
ok(i.append('INBOX', None, None, letter('three', 'mustard', 'References: <one@crepes.fr>\r\n')))
assert b'[TRYCREATE]' in refused(i.append('None', None, None, letter('x', 'x')))
ok(i.append('INBOX', None, None, letter('Grüße', 'schön')))
ok(i.enable('UTF8=ACCEPT'))  # after which imaplib 3.11 sends messages as no server can read them
assert i.utf8_enabled
assert b'MESSAGES 4' in ok(i.status('INBOX', '(MESSAGES UIDNEXT UNSEEN)'))[0]

# Reading.
assert ok(i.select('INBOX', readonly=True)) == [b'4']
assert i.is_readonly
assert b'[NOPERM]' in refused(i._simple_command('STORE', '1', '+FLAGS', r'(\Seen)'))
assert ok(i.select('INBOX')) == [b'4']
assert i.response('UIDNEXT')[1] == [b'5']
assert int(i.response('UIDVALIDITY')[1][0]) > 0
assert ok(i.recent()) == [b'0']
ok(i.check())
head, body = ok(i.fetch('1', '(FLAGS INTERNALDATE BODY.PEEK[])'))[0]
assert imaplib.ParseFlags(head) == (rb'\Flagged', b'$label1'), head
assert time.mktime(imaplib.Internaldate2tuple(head)) == 1793613600, head
assert body == letter('one', 'ketchup')
assert ok(i.fetch('2', '(BODY.PEEK[TEXT]<3.4>)'))[0][1] == b'kles'
assert ok(i.fetch('4', '(BODY.PEEK[HEADER.FIELDS (SUBJECT)])'))[0][1] == 'Subject: Grüße\r\n\r\n'.encode()
assert b'("Alice" NIL "alice" "crepes.fr")' in ok(i.uid('FETCH', '3', '(ENVELOPE BODYSTRUCTURE)'))[0]
assert ok(i.uid('FETCH', '9', '(FLAGS)')) == [None]

# Finding.
assert ok(i.search(None, 'FROM', 'alice', 'BODY', '"ketchup"')) == [b'1']
assert ok(i.search(None, 'SUBJECT', '"GRÜ"')) == [b'4']
assert ok(i.uid('SEARCH', 'KEYWORD', '$label1')) == [b'1']
assert ok(i.sort('(REVERSE SUBJECT)', 'UTF-8', 'ALL'))[0].split()[:2] == [b'2', b'3']
assert ok(i.uid('SORT', '(ARRIVAL)', 'UTF-8', 'NOT', 'FLAGGED')) == [b'2 3 4']
assert ok(i.thread('REFERENCES', 'UTF-8', 'ALL')) == [b'(1 3)(2)(4)']
assert ok(i.uid('THREAD', 'ORDEREDSUBJECT', 'UTF-8', 'ALL'))[0].count(b'(') == 4
ok(i.xatom('ID', 'NIL'))
assert i.response('ID')[1][0].startswith(b'("name" "postrider"')

# Changing.
assert imaplib.ParseFlags(ok(i.store('2', '+FLAGS', r'\Answered \Flagged'))[0]) == (rb'\Answered', rb'\Flagged')
ok(i.uid('STORE', '2', '-FLAGS.SILENT', r'(\Flagged)'))
ok(i.store('3', 'FLAGS', '($label1)'))
assert re.match(rb'\[COPYUID \d+ 1:2 1:2\]', ok(i.copy('1:2', 'Work'))[0])
ok(i.uid('MOVE', '2', 'Trash'))
assert i.response('EXPUNGE')[1] == [b'2']
ok(i.store('1', '+FLAGS', r'(\Deleted)'))
assert ok(i.expunge()) == [b'1']
ok(i.unselect())
ok(i.select('Work'))
ok(i.uid('STORE', '1:2', '+FLAGS', r'(\Deleted)'))
ok(i.uid('EXPUNGE', '1'))
ok(i.close())
assert b'MESSAGES 0' in ok(i.status('Work', '(MESSAGES)'))[0]
assert i.logout()[0] == 'BYE'
print('done')
